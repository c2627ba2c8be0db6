"""`tf-lottery demo --full`: the experiment of the lottery ticket paper."""

import contextlib
import dataclasses
import json
import pathlib
import time

from tf_lottery_cli.argument_types import whole
from tf_lottery_cli.terminal import Output

OUT = "runs/full_demo"


def add_options(group):
    """Adds the options of the full experiment.

    Args:
        group: An argument group of the parser.
    """
    group.add_argument(
        "--full",
        action="store_true",
        help=f"search tickets level by level, with controls and RigL (default of --out: {OUT})",
    )
    group.add_argument(
        "--levels",
        type=whole(1, 30),
        metavar="N",
        help="how many times to prune 20%% of the weights (default: 14)",
    )
    group.add_argument(
        "--replicates",
        type=whole(1),
        metavar="N",
        help="how often to run the experiment; the table shows means (default: 3)",
    )


def check_options(args):
    """Raises a `ValueError` for options of the full experiment without `--full`.

    Args:
        args: The parsed arguments.
    """
    for name in ("levels", "replicates"):
        value = getattr(args, name)
        if value is not None and not args.full:
            raise ValueError(f"--{name} must come with --full. Received: --{name} {value}")


def run(args):
    """Runs the full experiment.

    Args:
        args: The parsed arguments.

    Raises:
        ValueError: If the folder holds a run with other arguments.
        OSError: If the data set is missing or the folder cannot be written.
        RuntimeError: If the backend is not TensorFlow.
    """
    start = time.monotonic()
    from tf_lottery.experiments import data, demo

    settings, replicates = demo.SETTINGS[args.dataset], args.replicates or 3
    if args.levels:
        settings = dataclasses.replace(settings, levels=args.levels)
    arrays = data.load(args.dataset, args.data_dir, args.download)
    if args.fresh:
        demo.remove_demo(args.out)
    output = Output(args)
    console, progress = output.console, show_progress(settings.levels, replicates, args.quiet)
    with output.working(args.out), progress as on_row:
        result = demo.run_demo(arrays, settings, args.out, args.seed, replicates, on_row)
    if args.json:
        print(json.dumps(result.to_dict(), indent=1))
        return
    console.print(result)
    for sentence in result.conclusions():
        console.print(f"- {sentence}", highlight=False)
    out = pathlib.Path(args.out)
    console.print(
        f"{time.monotonic() - start:.0f} seconds. In {out}: lottery.png (the plot), *.tflite, "
        "results.json, replicate_*/ticket_*.npz (tickets), replicate_*/trained_*.keras (networks)"
        f"\nNext: tf-lottery summary {out / 'replicate_0' / f'ticket_{result.levels[-1]:02d}.npz'}",
        highlight=False,
        soft_wrap=True,
    )


@contextlib.contextmanager
def show_progress(levels, replicates, quiet=False):
    """Shows the progress of the demonstration: a bar on a terminal, else a line per step.

    Args:
        levels: Integer, the levels of every replicate.
        replicates: Integer.
        quiet: Boolean, whether to show nothing. Defaults to `False`.

    Yields:
        The function to give to `run_demo` as `on_row`.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, markup=False, quiet=quiet)
    if not console.is_terminal:
        yield lambda row: console.print(_describe(row), highlight=False)
        return
    # One training of the dense network, two per level and one of RigL; then the exports.
    trainings = 2 * levels + 2
    columns = (
        BarColumn(10),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("Trains the dense network", total=replicates * trainings + 2)

        def on_row(row):
            done = replicates * trainings
            if row["kind"] != "export":
                before = {"ticket": 1, "reinitialized": levels + 1, "rigl": levels + 2}[row["kind"]]
                done = row["replicate"] * trainings + before + row["level"]
            progress.update(task, completed=done, description=_describe(row))

        yield on_row


def _describe(row):
    if row["kind"] == "export":
        return f"Exports level {row['level']}: density {row['density']:.1%}"
    kind = "RigL" if row["kind"] == "rigl" else row["kind"]
    return (
        f"Replicate {row['replicate']}, {kind} {row['level']}: "
        f"density {row['density']:.1%}, accuracy {row['test_accuracy']:.1%}"
    )
