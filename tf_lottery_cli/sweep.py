"""`tf-lottery sweep`: many trainings, and one table of their results."""

import json
import os
import shlex
import time

from tf_lottery_cli.argument_types import not_negative, positive, whole
from tf_lottery_cli.files import existing_file
from tf_lottery_cli.parser import add_command
from tf_lottery_cli.sweep_table import add_table_options, train_and_show
from tf_lottery_cli.terminal import Output, import_keras

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
are `ticket`, `teacher` and the arguments of `RetrainSettings`. With `export: float32`, or
weight_int8 and so on, a TFLite file is written after every training, and the table has its bytes,
accuracy and milliseconds; with `retrain: {tweaks: all}` tickets of imp and cs are trained again.
In place of `dataset`, `data: train.npz` names your own data, and `model: mine.keras` your model.

  tf-lottery sweep digits.yaml --jobs 2 --out runs/digits
  tf-lottery sweep digits.yaml --address auto --gpus 0.5 --out /shared/digits
  tf-lottery sweep digits.yaml --slurm --out /shared/digits > digits.sh && sbatch digits.sh
  tf-lottery list runs/digits"""

# Seconds between two looks at a search that another job works on.
_PAUSE = 5.0
RESUME = "(the same command goes on where it stopped)"


def add_parser(commands):
    """Adds the subcommand.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands, "sweep", run, "train many networks and compare them", DESCRIPTION, RESUME
    )
    parser.add_argument(
        "spec", type=existing_file, metavar="SPEC", help="a .yaml, .toml or .json file of settings"
    )
    add_table_options(parser, "runs/sweep")
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
    name = os.path.splitext(os.path.basename(spec))[0]
    gpus = f"#SBATCH --gpus-per-task={args.gpus:g}\n" if args.gpus else ""
    return f"""\
#!/bin/bash
# Submit it with sbatch. At the end, make the table: {command}
#SBATCH --job-name={shlex.quote(name)}
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
    output = Output(args)
    output.note(f"{chosen.name} in {args.out}")
    with output.working(os.path.join(args.out, chosen.name)):
        results = _train_when_free(chosen, args.out, output.verbose)
    if args.json:
        print(json.dumps({"name": chosen.name, **results}, indent=1))
        return
    print(f"Test accuracy {results['test_accuracy']:.2%} at {results['density']:.2%} density")


def _train_when_free(chosen, out, verbose):
    """Trains a run, after other jobs have searched the ticket that it needs."""
    from tf_lottery.experiments.folder_lock import FolderInUse

    while True:
        try:
            return chosen.train(out, verbose)
        except FolderInUse:
            if chosen.search is None or chosen.search.trained(out) is not None:
                raise
            time.sleep(_PAUSE)


def _train_all(args, sweep):
    places = {name: getattr(args, name) for name in ("jobs", "address", "cpus", "gpus", "retries")}
    train_and_show(args, sweep, **places)
