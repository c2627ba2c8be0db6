"""Trains what is missing of a sweep, shows how long it takes, and prints the table."""

import contextlib
import json
import time

from tf_lottery_cli.parser import add_output_options
from tf_lottery_cli.terminal import one_line


def add_table_options(parser, out):
    """Adds the folder of a sweep, and how its table is shown.

    Args:
        parser: A `Parser`.
        out: String, the default folder.
    """
    parser.add_argument(
        "--out",
        metavar="DIR",
        default=out,
        help=f"folder for the runs, results.json, results.csv and sweep.png (default: {out}); "
        "an interrupted sweep goes on",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="delete the files of these runs in --out first"
    )
    add_output_options(parser)


def train_and_show(args, sweep, conclude=None, **places):
    """Trains what is missing of a sweep, and prints its table, after Ctrl-C of what is there.

    Args:
        args: The parsed arguments, with those of `add_table_options`.
        sweep: `Sweep`.
        conclude: Function of the result that returns lines to print below the table. Defaults to
            `None`.
        **places: Arguments of `run_sweep`, where to train.

    Raises:
        ValueError: If the folder holds other runs.
        OSError: If a file cannot be read or written.
        RuntimeError: If runs have failed; the others are in the table.
    """
    from tf_lottery.experiments import sweeps
    from tf_lottery.experiments.sweeps.sweep import collect, unfinished

    if args.fresh:
        sweeps.remove_sweep(sweep, args.out)
    missing = unfinished(sweep, args.out)
    if missing and places.get("address") is None:
        # Data that cannot be read are refused before a folder is made.
        missing[0].load_data()
    try:
        with show_progress(sweep.runs, missing, args.quiet) as on_run:
            result = sweeps.run_sweep(sweep, args.out, on_run=on_run, **places)
    except KeyboardInterrupt:
        result = collect(sweep, args.out)
        if result.rows:
            _print_result(args, result, f"{len(result.rows)} of {len(sweep.runs)} runs so far")
        raise
    text = f"In {args.out}: results.json, results.csv, sweep.png, and a folder for every run"
    if not missing:
        text += f"\nAll {len(sweep.runs)} runs had finished before: nothing was trained"
    _print_result(args, result, text, conclude(result) if conclude else ())
    if result.failed:
        name, error = next(iter(result.failed.items()))
        raise RuntimeError(
            f"{len(result.failed)} of {len(sweep.runs)} runs failed; results.json has all errors. "
            f"The first is {name}: {error}"
        )


def _print_result(args, result, text, conclusions=()):
    from rich.console import Console

    if args.json:
        print(json.dumps(result.to_dict(), indent=1))
        return
    console = Console(markup=False)
    console.print(result)
    for line in conclusions:
        console.print(line, highlight=False)
    console.print(text, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def show_progress(runs, missing, quiet=False):
    """Shows the progress of a sweep on standard error: a bar on a terminal, else a line per run.

    Args:
        runs: Sequence of all runs.
        missing: List of the runs that are to be trained.
        quiet: Boolean, whether to show nothing. Defaults to `False`.

    Yields:
        The function to give to `run_sweep` as `on_run`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True, markup=False, quiet=quiet)
    clock = Clock(missing)
    columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        finished = len(runs) - len(missing)
        task = progress.add_task("", total=len(runs), completed=finished)

        def on_run(run, outcome, message):
            left = clock.left(run) if outcome in ("finished", "failed") else ""
            note = f" ({one_line(message)})" if message and outcome != "in use" else ""
            if outcome in ("finished", "failed"):
                progress.advance(task)
            count = f"{progress.tasks[0].completed:.0f}/{len(runs)}"
            progress.update(task, description=left)
            if outcome != "in use":
                console.print(f"{count} {run.name}: {outcome}{note}; {left}".removesuffix("; "))

        yield on_run


class Clock:
    """Estimates how long a sweep will take, from the epochs that are done and those to do.

    Args:
        missing: List of the runs that are to be trained.

    Example:

    >>> Clock([]).left(None)
    ''
    """

    def __init__(self, missing):
        self.start = time.monotonic()
        self.epochs = {run.name: run.epochs for run in missing}
        self.total = sum(self.epochs.values())

    def left(self, run):
        """Returns how long the rest will take, as a text, after a run has ended.

        Args:
            run: `Run`.
        """
        if run is not None:
            self.epochs.pop(run.name, None)
        from tf_lottery.experiments.progress import duration

        rest = sum(self.epochs.values())
        if not rest:
            return ""
        seconds = (time.monotonic() - self.start) * rest / (self.total - rest)
        return f"{duration(seconds)} left"
