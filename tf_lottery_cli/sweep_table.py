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
    jobs = places.get("jobs", 1)
    try:
        with show_progress(sweep.runs, missing, args.quiet, jobs) as on_run:
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
def show_progress(runs, missing, quiet=False, jobs=1):
    """Shows the progress of a sweep on standard error: a bar on a terminal, else a line per run.

    Args:
        runs: Sequence of all runs.
        missing: List of the runs that are to be trained.
        quiet: Boolean, whether to show nothing. Defaults to `False`.
        jobs: Integer, how many runs are trained at once. Defaults to `1`.

    Yields:
        The function to give to `run_sweep` as `on_run`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True, markup=False, quiet=quiet)
    clock = Clock(missing, jobs)
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

    The first run that ends is not counted, since the process starts and compiles in its time. There
    is no estimate before one more has ended, or as many as are trained at once, since those end at
    about the same time.

    Args:
        missing: List of the runs that are to be trained.
        jobs: Integer, how many runs are trained at once. Defaults to `1`.

    Example:

    >>> from tf_lottery.experiments.sweeps import Sweep
    >>> runs = Sweep.from_dict({"method": ["dense", "gmp"]}).runs
    >>> Clock(runs).left(runs[0])
    ''
    """

    def __init__(self, missing, jobs=1):
        self.epochs = {run.name: run.epochs for run in missing}
        self.jobs, self.ended = jobs, 0
        self.first = None

    def left(self, run):
        """Returns how long the rest will take, as a text, after a run has ended.

        Args:
            run: `Run`.
        """
        from tf_lottery.experiments.progress import duration

        del self.epochs[run.name]
        rest, now = sum(self.epochs.values()), time.monotonic()
        self.ended += 1
        self.first = self.first or (now, rest)
        start, rest_then = self.first
        if not rest or self.ended <= self.jobs:
            return ""
        seconds = (now - start) * rest / (rest_then - rest)
        return f"{duration(seconds)} left"
