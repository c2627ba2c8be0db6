"""`tf-lottery sweep`: many trainings, and one table of their results."""

import contextlib
import os
import shlex
import time

from tf_lottery_cli.parser import add_command, not_negative, positive, whole
from tf_lottery_cli.terminal import import_keras, one_line, verbosity

DESCRIPTION = """\
Trains methods, sparsities, seeds and other settings against each other: every combination is a
run of its own, in a folder that is named after its settings, and one table has the means and
standard deviations over the seeds. Use it for every comparison: an interrupted sweep goes on where
it stopped, and several processes or machines can share the runs of one folder. SPEC is a YAML,
TOML or JSON file of the options of `tf-lottery train`, where a list stands for a run with each of
its values:

  dataset: digits
  method: [static, rigl, gmp]
  sparsity: [0.9, 0.95]
  seed: [0, 1, 2]
  epochs: 10

More cases, with settings of their own, stand in a list under `cases`. With `run: retrain` the keys
are `ticket`, `teacher` and the arguments of `RetrainSettings`.

  tf-lottery sweep digits.yaml --jobs 2 --out runs/digits
  tf-lottery sweep digits.yaml --address auto --gpus 0.5 --out /shared/digits
  tf-lottery sweep digits.yaml --slurm --out /shared/digits > digits.sh && sbatch digits.sh
  tf-lottery list runs/digits"""

RESUME = "(the same command goes on where it stopped)"


def add_parser(commands):
    """Adds the subcommand.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands, "sweep", run, "train many networks and compare them", DESCRIPTION, RESUME
    )
    parser.add_argument("spec", metavar="SPEC", help="a .yaml, .toml or .json file of settings")
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="runs/sweep",
        help="folder for the runs, results.json, results.csv and sweep.png (default: %(default)s); "
        "an interrupted sweep goes on",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="delete the files of these runs in --out first"
    )
    _add_places(parser)
    parser.add_argument(
        "--retries",
        type=whole(0),
        default=2,
        metavar="N",
        help="how often to try a run again whose process or machine died (default: 2)",
    )


def _add_places(parser):
    """Adds where to train, and what a run takes there."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs",
        type=whole(1),
        default=1,
        metavar="N",
        help="train in N processes at once, which share the GPUs in CUDA_VISIBLE_DEVICES "
        "(default: 1)",
    )
    where.add_argument(
        "--address",
        metavar="A",
        help="train on the Ray cluster at this address, such as auto; its machines must see --out",
    )
    where.add_argument(
        "--slurm", action="store_true", help="print a job array for SLURM and train nothing"
    )
    where.add_argument(
        "--only",
        type=whole(0),
        metavar="I",
        help="train the run of this number alone and write no table, as the jobs of SLURM do",
    )
    parser.add_argument(
        "--cpus",
        type=positive,
        default=1,
        metavar="N",
        help="CPU cores for each run, with --address and --slurm (default: 1)",
    )
    parser.add_argument(
        "--gpus",
        type=not_negative,
        default=0,
        metavar="N",
        help="GPUs for each run, with --address also a part of one (default: 0)",
    )


def run(args):
    """Runs the subcommand.

    Args:
        args: The parsed arguments.

    Raises:
        ValueError: If SPEC is wrong, options exclude each other, or the folder holds other runs.
        OSError: If a file cannot be read or written.
        ImportError: If an extra is not installed.
        RuntimeError: If runs have failed; the others are in the table.
    """
    _check_options(args)
    import_keras()
    from tf_lottery.experiments import sweeps

    sweep = sweeps.Sweep.from_file(args.spec)
    if args.slurm:
        print(job_array(args, len(sweep.runs)))
    elif args.only is not None:
        _train_one(args, sweep)
    else:
        _train_all(args, sweep)


def _check_options(args):
    if args.fresh and (args.slurm or args.only is not None):
        other = "--slurm" if args.slurm else f"--only {args.only}"
        raise ValueError(
            "--fresh deletes the runs of the whole sweep, so --only and --slurm must be given "
            f"without it. Received: --fresh {other}"
        )
    for name, value in (("--cpus", args.cpus), ("--gpus", args.gpus)):
        if args.slurm and value % 1:
            raise ValueError(
                f"{name} must be a whole number with --slurm. Received: {name} {value:g}"
            )


def job_array(args, count):
    """Returns the script of a SLURM job array that trains every run in a job.

    Args:
        args: The parsed arguments.
        count: Integer, the number of runs.
    """
    spec, out = os.path.abspath(args.spec), os.path.abspath(args.out)
    command = f"tf-lottery sweep {shlex.quote(spec)} --out {shlex.quote(out)}"
    gpus = f"#SBATCH --gpus-per-task={args.gpus:g}\n" if args.gpus else ""
    return f"""\
#!/bin/bash
# Submit it with sbatch. At the end, make the table: {command}
#SBATCH --job-name={os.path.splitext(os.path.basename(spec))[0]}
#SBATCH --array=0-{count - 1}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={args.cpus:g}
{gpus}\
# A job that is preempted starts again, and its run goes on from the last epoch.
#SBATCH --requeue
exec {command} --only "$SLURM_ARRAY_TASK_ID\""""


def _train_one(args, sweep):
    """Trains the run with a number."""
    if args.only >= len(sweep.runs):
        raise ValueError(
            f"--only must be below {len(sweep.runs)}, the number of runs. Received: {args.only}"
        )
    chosen = sweep.runs[args.only]
    print(f"{chosen.name} in {args.out}", flush=True)
    results = chosen.train(args.out, verbosity())
    print(f"Test accuracy {results['test_accuracy']:.2%} at {results['density']:.2%} density")


def _train_all(args, sweep):
    from rich.console import Console

    from tf_lottery.experiments import sweeps
    from tf_lottery.experiments.sweeps.sweep import unfinished

    if args.fresh:
        sweeps.remove_sweep(sweep, args.out)
    missing = unfinished(sweep, args.out)
    console = Console(markup=False)
    with show_progress(sweep.runs, missing) as on_run:
        result = sweeps.run_sweep(
            sweep,
            args.out,
            jobs=args.jobs,
            address=args.address,
            cpus=args.cpus,
            gpus=args.gpus,
            retries=args.retries,
            on_run=on_run,
        )
    console.print(result)
    text = f"In {args.out}: results.json, results.csv, sweep.png, and a folder for every run"
    if not missing:
        text += f"\nAll {len(sweep.runs)} runs had finished before: nothing was trained"
    console.print(text, highlight=False, soft_wrap=True)
    if result.failed:
        name, error = next(iter(result.failed.items()))
        raise RuntimeError(
            f"{len(result.failed)} of {len(sweep.runs)} runs failed; results.json has all errors. "
            f"The first is {name}: {error}"
        )


@contextlib.contextmanager
def show_progress(runs, missing):
    """Shows the progress of a sweep on standard error: a bar on a terminal, else a line per run.

    Args:
        runs: Sequence of all runs.
        missing: List of the runs that are to be trained.

    Yields:
        The function to give to `run_sweep` as `on_run`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True, markup=False)
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
        rest = sum(self.epochs.values())
        if not rest:
            return ""
        seconds = (time.monotonic() - self.start) * rest / (self.total - rest)
        return f"{duration(seconds)} left"


def duration(seconds):
    """Returns a time as a short text.

    Args:
        seconds: Float.

    Example:

    >>> [duration(seconds) for seconds in (4.2, 150, 9000)]
    ['4 s', '2 min', '2.5 h']
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
