"""`tf-lottery reproduce`: a training of a paper at the size in which it was published."""

import dataclasses
import json

from tf_lottery_cli.argument_types import whole
from tf_lottery_cli.parser import add_command, add_output_options, add_run_options
from tf_lottery_cli.terminal import Output, import_keras

DESCRIPTION = """\
Trains as a paper did, with its network, data, settings and sparsity, on all accelerators of this
machine, and compares accuracy, FLOPs and bytes with what it reports. Without a name it lists the
trainings, and how many steps each of them has. They are as long as in the papers and need
accelerators; --synthetic tries one on made examples in a few steps of small batches: that it runs,
and what it counts.

  tf-lottery reproduce
  tf-lottery reproduce resnet-50-rigl-80 --synthetic
  tf-lottery reproduce resnet-50-rigl-80 --data-dir /data/tfds --out runs/resnet"""

RESUME = "(the same command goes on from the last epoch)"
# Of a trial on made examples.
_BATCH_SIZE, _STEPS = 4, 3
_LABELS = {
    "test_accuracy": ("test accuracy", "{:.2%}"),
    "parameters": ("parameters", "{:,}"),
    "inference_flops": ("FLOPs, of the dense network", "{:.3f}"),
    "megaflops": ("MFLOPs of an example", "{:,.1f}"),
    "megabytes": ("MB with a bit mask", "{:.3f}"),
}


def add_parser(commands):
    """Adds the subcommand.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands, "reproduce", run, "train as a paper did, and compare", DESCRIPTION, RESUME
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="a training (default: list all)")
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder of TensorFlow Datasets (default: its usual one), or of the files of "
        "WikiText-103 or TinyImageNet",
    )
    parser.add_argument(
        "--download", action="store_true", help="let TensorFlow Datasets fetch what is missing"
    )
    trial = parser.add_argument_group("try it on made examples")
    trial.add_argument(
        "--synthetic", action="store_true", help="take made examples, and train for --steps"
    )
    trial.add_argument(
        "--steps", type=whole(1), metavar="N", help=f"of every training (default: {_STEPS})"
    )
    trial.add_argument("--batch-size", type=whole(1), metavar="N", help=f"(default: {_BATCH_SIZE})")
    trial.add_argument(
        "--image-size", type=whole(8), metavar="N", help="rows and columns (default: the paper's)"
    )
    add_run_options(parser, "runs/reproduce")
    add_output_options(parser)


def run(args):
    """Runs the subcommand.

    Args:
        args: The parsed arguments.

    Raises:
        ValueError: If the name is unknown, options do not fit, or the folder holds another run.
        OSError: If the data set is missing or the folder cannot be written.
    """
    _check(args)
    import_keras()
    from tf_lottery.experiments import reproductions
    from tf_lottery.experiments.devices import count_devices, on_all_devices

    output = Output(args)
    if args.name is None:
        _print_list(output, reproductions.REPRODUCTIONS)
        return
    chosen = _find(args.name, reproductions.REPRODUCTIONS)
    if args.synthetic:
        devices, steps = count_devices(), args.steps or _STEPS
        size = args.batch_size or -(-_BATCH_SIZE // devices) * devices
        if size % devices:
            raise ValueError(
                f"--batch-size must be a multiple of {devices}, the accelerators that share a "
                f"batch. Received: --batch-size {size}"
            )
        chosen = chosen.shortened(size, steps)
        data = reproductions.make(chosen, size * steps, args.image_size, args.seed)
    else:
        data = reproductions.load(chosen, args.data_dir, args.download, args.seed)
    if args.fresh:
        reproductions.remove_reproduction(args.out)
    last = "train" if chosen.retraining is None else "retrain"
    with on_all_devices(), output.working(f"{args.out}/{last}"):
        report = reproductions.run_reproduction(chosen, data, args.out, args.seed, output.verbose)
    if output.as_json:
        print(json.dumps(report, indent=1))
        return
    output.console.print(_table(report))
    output.note(chosen.source)
    if args.synthetic:
        output.note("Made examples: the accuracy means nothing.")


def _check(args):
    """Raises a `ValueError` if options do not fit, before Keras is imported."""
    given = {
        "--steps": args.steps,
        "--batch-size": args.batch_size,
        "--image-size": args.image_size,
    }
    if not args.synthetic and (wrong := [name for name, value in given.items() if value]):
        raise ValueError(
            f"{wrong[0]} is an option of --synthetic: a paper's training has its own. "
            f"Received: {' '.join(f'{name} {given[name]}' for name in wrong)}"
        )
    data = {"--data-dir": args.data_dir, "--download": args.download}
    if args.synthetic and (wrong := [name for name, value in data.items() if value]):
        raise ValueError(
            "--synthetic makes its examples and reads no data. "
            f"Received: --synthetic {' '.join(wrong)}"
        )
    if args.synthetic and args.name is None:
        raise ValueError("NAME must be given with --synthetic. Received: no NAME")


def _find(name, reproductions):
    """Returns a training by its name, or raises a `ValueError` with similar names."""
    from tf_lottery.checks import nearest

    if name not in reproductions:
        known = nearest(name, list(reproductions)) or list(reproductions)
        raise ValueError(
            "NAME must be a training that `tf-lottery reproduce` lists; did you mean "
            f"{' or '.join(known[:3])}? Received: {name!r}"
        )
    return reproductions[name]


def _print_list(output, found):
    from tf_lottery.printable import plain_table

    if output.as_json:
        print(json.dumps([_described(one) for one in found.values()], indent=1))
        return
    table = plain_table()
    table.add_column("Name", overflow="fold")
    table.add_column("Steps", justify="right")
    table.add_column("Batch", justify="right")
    table.add_column("Reported", justify="right")
    for one in found.values():
        accuracy = one.published.get("test_accuracy")
        reported = "" if accuracy is None else f"{accuracy:.1%}"
        table.add_row(one.name, f"{one.steps:,}", f"{one.settings.batch_size:,}", reported)
    output.console.print(table)


def _described(one):
    """Returns what is known of a training, as a dict for JSON."""
    settings = {"search": one.settings.to_dict()}
    if one.retraining is not None:
        settings["retraining"] = dataclasses.asdict(one.retraining)
    names = ("name", "source", "dataset", "image_size", "steps", "published", "ours")
    return {**{name: getattr(one, name) for name in names}, **settings}


def _table(report):
    from tf_lottery.printable import plain_table

    table = plain_table()
    for name in ("", "Here", "Paper"):
        table.add_column(name, justify="left" if not name else "right")
    for name, value in report["found"].items():
        label, form = _LABELS[name]
        published = report["published"].get(name)
        table.add_row(
            label, form.format(value), "" if published is None else form.format(published)
        )
    return table
