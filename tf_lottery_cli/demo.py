"""`tf-lottery demo`: the lottery ticket experiment in a minute."""

import contextlib
import dataclasses
import pathlib
import time

from tf_lottery_cli.parser import (
    IMAGES,
    add_command,
    add_data_options,
    add_run_options,
    data_options,
    whole,
)
from tf_lottery_cli.terminal import import_keras, says_if_finished

DESCRIPTION = """\
Finds lottery tickets in LeNet-300-100: trains, prunes 20% of the weights, rewinds the rest to
their initial values and trains again, level by level down to about 5% density. Then it trains the
same masks from new random weights, and with RigL a network as sparse as the last ticket, writes a
few of the networks to TFLite files, prints a table of the results and summarizes it in words.
Use it to see what the library does: with the digits that come with scikit-learn it takes a minute
or two and no network, with mnist a quarter of an hour, with cifar10 more.

  tf-lottery demo
  tf-lottery demo --dataset mnist --data-dir ~/tensorflow_datasets --out runs/mnist"""

RESUME = "(the same command goes on where it stopped)"


def add_parser(commands):
    """Adds the subcommand.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands, "demo", run, "find lottery tickets and export them", DESCRIPTION, RESUME
    )
    add_data_options(parser, IMAGES)
    parser.add_argument(
        "--levels",
        type=whole(1, 30),
        metavar="N",
        help="how many times to prune 20%% of the weights (default: 14)",
    )
    parser.add_argument(
        "--replicates",
        type=whole(1),
        default=3,
        metavar="N",
        help="how often to run the experiment; the table shows means (default: 3)",
    )
    add_run_options(parser, "runs/demo")


def run(args):
    """Runs the subcommand.

    Args:
        args: The parsed arguments.

    Raises:
        ValueError: If the folder holds a run with other arguments.
        OSError: If the data set is missing or the folder cannot be written.
        RuntimeError: If the backend is not TensorFlow.
    """
    start = time.monotonic()
    import_keras()
    from rich.console import Console

    from tf_lottery.experiments import data, demo

    settings = demo.SETTINGS[args.dataset]
    if args.levels:
        settings = dataclasses.replace(settings, levels=args.levels)
    arrays = data.load(args.dataset, args.data_dir, args.download, **data_options(args))
    if args.fresh:
        demo.remove_demo(args.out)
    console = Console(markup=False)
    progress = show_progress(settings.levels, args.replicates)
    with says_if_finished(console, args.out), progress as on_row:
        result = demo.run_demo(arrays, settings, args.out, args.seed, args.replicates, on_row)
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
def show_progress(levels, replicates):
    """Shows the progress of the demonstration: a bar on a terminal, else a line per step.

    Args:
        levels: Integer, the levels of every replicate.
        replicates: Integer.

    Yields:
        The function to give to `run_demo` as `on_row`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, markup=False)
    if not console.is_terminal:
        yield lambda row: console.print(_describe(row), highlight=False)
        return
    # One training of the dense network, two per level and one of RigL; then the exports.
    trainings = 2 * levels + 2
    columns = (BarColumn(10), TimeElapsedColumn(), TextColumn("{task.description}"))
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
