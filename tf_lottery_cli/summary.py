"""`tf-lottery summary`: what is sparse in a file."""

import json

from tf_lottery_cli.files import existing_file
from tf_lottery_cli.model_options import add_import_option, import_custom
from tf_lottery_cli.parser import add_command
from tf_lottery_cli.terminal import import_keras

DESCRIPTION = """\
Shows what is sparse in a file: of a Keras model (.keras, masked or stripped) or of a lottery
ticket (.npz) the shape, size and sparsity of every kernel and the bytes of all weights; of a
model also the FLOPs of inference, of a ticket its level and where it comes from. Use it to see
what a file holds before you train, apply or export it.

  tf-lottery summary runs/demo/imp_sparsity-0.95_seed-0/ticket.npz
  tf-lottery summary model.keras --json"""


def add_parser(commands):
    """Adds the subcommand.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands, "summary", run, "show what is sparse in a model or a ticket", DESCRIPTION
    )
    parser.add_argument(
        "file", type=existing_file, metavar="FILE", help="a .keras model or a .npz ticket"
    )
    add_import_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args):
    """Runs the subcommand.

    Args:
        args: The parsed arguments.
    """
    import_keras()
    from rich.console import Console

    from tf_lottery.analysis import report
    from tf_lottery.experiments import model_file

    import_custom(args)
    ticket = None
    if model_file.kind(args.file) == "ticket":
        from tf_lottery.ticket import Ticket

        ticket = Ticket.load(args.file)
        summary = _ticket_summary(ticket)
    else:
        summary = report.summary(model_file.load_model(args.file))
    if args.json:
        extra = {"level": ticket.level, "provenance": ticket.provenance} if ticket else {}
        print(json.dumps({**summary.to_dict(), "density": summary.density, **extra}, indent=1))
        return
    console = Console(markup=False)
    console.print(summary)
    if ticket:
        origin = ", ".join(f"{name} {value}" for name, value in ticket.provenance.items())
        console.print(f"Ticket of level {ticket.level}, density {ticket.density:.2%}: {origin}")


def _ticket_summary(ticket):
    from tf_lottery.analysis.report import KernelRow, Summary

    rows = [
        KernelRow(path, mask.shape, mask.size, int(mask.sum()))
        for path, mask in ticket.masks.items()
    ]
    num_parameters = sum(weight.size for weight in ticket.weights.values())
    name, reason = ticket.provenance.get("model", "ticket"), "a ticket holds no architecture"
    return Summary(name, rows, {}, num_parameters, no_flops=reason)
