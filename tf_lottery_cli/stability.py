"""`tf-lottery stability`: whether two trainings from the same weights stay connected."""

import collections
import json
import pathlib

from tf_lottery_cli.argument_types import whole
from tf_lottery_cli.data_options import (
    DATA,
    add_data_options,
    load_data,
)
from tf_lottery_cli.files import existing_file
from tf_lottery_cli.model_options import DEFAULT_MODELS, add_model_option, is_file
from tf_lottery_cli.parser import (
    STARTS,
    add_command,
    add_output_options,
    add_run_options,
    add_step_options,
    step_options,
)
from tf_lottery_cli.terminal import Output, drawing, import_keras

DESCRIPTION = """\
Trains two copies of a network from the same weights, with the data in another order, and evaluates
the networks on the straight line between the two. If the error rises less than 2% there, the
network is stable: both trainings end in the same valley. Tickets match the dense network only
where they are stable. Use it on tickets that a search has found, all of them at once if you like,
to see from which density, or from which rewind step, they are stable; or without a ticket on a
dense network, and, as a control, between two dense networks that share nothing but the data.

  tf-lottery stability runs/full_demo/replicate_0/ticket_*.npz --epochs 20
  tf-lottery stability --dense shared --rewind-to-step 500 --dataset mnist
  tf-lottery stability runs/train/ticket.npz --model mine.keras --data train.npz

{data}
A model of yours has one set of initial weights, so that `--dense independent` needs a network by
name."""

RESUME = "(the same command goes on from the last epoch)"


def add_parser(commands):
    """Adds the subcommand.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands,
        "stability",
        run,
        "see whether tickets are stable to the order of the data",
        DESCRIPTION.format(data=DATA),
        RESUME,
    )
    parser.add_argument(
        "tickets",
        nargs="*",
        type=existing_file,
        metavar="TICKET",
        help="a .npz ticket of the model; both copies start from its weights",
    )
    parser.add_argument(
        "--dense",
        action="append",
        choices=STARTS,
        help="dense networks too: two from the same initial weights (shared) or from two "
        "(independent); can be given twice (default without tickets: both, or shared for a model "
        "of yours)",
    )
    add_data_options(parser)
    add_model_option(
        parser,
        f"the network, or a .keras file of yours: that of the tickets (default: {DEFAULT_MODELS})",
    )
    _add_training_options(parser)
    parser.add_argument(
        "--points",
        type=whole(2),
        default=30,
        metavar="N",
        help="points from one copy to the other, both included (default: 30)",
    )
    add_run_options(parser, "runs/stability")
    add_output_options(parser)


def _add_training_options(parser):
    parser.add_argument(
        "--epochs", type=whole(1), default=10, metavar="N", help="of every copy (default: 10)"
    )
    parser.add_argument(
        "--steps-per-epoch",
        type=whole(1),
        metavar="N",
        help="(default: one pass through the data)",
    )
    add_step_options(parser)
    parser.add_argument(
        "--rewind-to-step",
        type=whole(0),
        metavar="K",
        help="train the dense networks for this many steps before they are copied (default: 0); "
        "a ticket has its own step",
    )


def run(args):
    """Runs the subcommand.

    Args:
        args: The parsed arguments.

    Raises:
        ValueError: If arguments do not fit, or a folder holds a run with others.
        OSError: If a ticket or the data set is missing or the folder cannot be written.
    """
    starts = ("shared",) if args.model and is_file(args.model) else STARTS
    kinds = list(dict.fromkeys(args.dense or ([] if args.tickets else starts)))
    if args.rewind_to_step and not kinds:
        raise ValueError(
            "--rewind-to-step must come with --dense: a ticket has its own step. "
            f"Received: --rewind-to-step {args.rewind_to_step}"
        )
    paths = names_of(args.tickets)
    import_keras()
    from tf_lottery.experiments import run_folder, stability
    from tf_lottery.ticket import Ticket

    tickets = {name: Ticket.load(path) for name, path in paths.items()}
    cases = {f"dense_{kind}": (kind, None) for kind in kinds}
    cases.update({name: ("shared", ticket) for name, ticket in tickets.items()})
    output, out, results = Output(args), pathlib.Path(args.out), {}
    arrays = load_data(args, args.model, output)
    for name, (start, ticket) in cases.items():
        if args.fresh:
            stability.remove_stability(out / name)
        output.note(f"Run in {out / name}")
        settings = _settings(args, start, 0 if ticket else args.rewind_to_step or 0)
        with output.working(out / name):
            results[name] = stability.run_stability(
                arrays, settings, out / name, args.seed, ticket, output.verbose
            )
    run_folder.write_json(out / "stability.json", results)
    with drawing("stability", "stability.png"):
        _draw(results, out / "stability.png", arrays.name)
    if args.json:
        print(json.dumps(results, indent=1))
        return
    output.console.print(_table(results))
    output.console.print(
        f"In {out}: stability.png (the plot), stability.json", highlight=False, soft_wrap=True
    )


def _settings(args, start, rewind_to_step):
    from tf_lottery.experiments.stability import StabilitySettings

    return StabilitySettings(
        model=args.model,
        epochs=args.epochs,
        steps_per_epoch=args.steps_per_epoch,
        **step_options(args),
        start=start,
        rewind_to_step=rewind_to_step,
        points=args.points,
    )


def names_of(paths):
    """Returns a dict of names for folders to the paths of tickets.

    Args:
        paths: List of the paths as they were given.

    Raises:
        ValueError: If two names are the same.

    Example:

    >>> names_of(["runs/a/ticket.npz"])
    {'ticket': PosixPath('runs/a/ticket.npz')}
    """
    paths = [pathlib.Path(path) for path in dict.fromkeys(paths)]
    stems = collections.Counter(path.stem for path in paths)
    names = {f"dense_{start}": None for start in STARTS}
    for path in paths:
        name = path.stem if stems[path.stem] == 1 else f"{path.resolve().parent.name}_{path.stem}"
        if name in names:
            raise ValueError(
                "TICKET must be files with different names, or in folders with different names, "
                f"since their results go to folders of these names. Received: {str(path)!r}, whose "
                f"name {name!r} is taken"
            )
        names[name] = path
    return {name: path for name, path in names.items() if path is not None}


def _draw(results, path, dataset):
    from tf_lottery.analysis.connectivity_plots import plot_connectivity
    from tf_lottery.experiments.stability import read_connectivity

    lines = {
        f"{name}, density {result['density']:.1%}": read_connectivity(result)
        for name, result in results.items()
    }
    plot_connectivity(lines, path, title=f"Between two copies on {dataset}")


def _table(results):
    """Returns a table with a line for every network."""
    from tf_lottery.experiments.stability import read_connectivity
    from tf_lottery.printable import plain_table

    table = plain_table(
        caption="Mean: of the test errors of the two copies. Barrier: the highest error, or loss, "
        "on the line between them minus that mean. Stable: a barrier of less than 2%.",
        caption_justify="left",
        padding=(0, 1, 0, 0),
    )
    table.add_column("Copies of", overflow="fold")
    for heading in ("Density", "Mean", "Highest", "Barrier", "Barrier\nof loss", "Stable"):
        table.add_column(heading, justify="right")
    for name, result in results.items():
        found = read_connectivity(result)
        table.add_row(
            name,
            f"{result['density']:.2%}",
            f"{(found.errors[-1] + found.errors[0]) / 2:.2%}",
            f"{max(found.errors):.2%}",
            f"{found.barrier_error:.2%}",
            f"{found.barrier_loss:.4f}",
            "yes" if found.is_stable else "no",
        )
    return table
