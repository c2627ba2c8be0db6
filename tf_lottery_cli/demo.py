"""`tf-lottery demo`: a network of each family and its file, or the full lottery experiment."""

from tf_lottery_cli import full_demo
from tf_lottery_cli.argument_types import whole
from tf_lottery_cli.compare import add_jobs, add_named_data
from tf_lottery_cli.parser import add_command
from tf_lottery_cli.sweep_table import add_table_options, train_and_show
from tf_lottery_cli.terminal import import_keras

DESCRIPTION = """\
Trains LeNet-300-100 on the digits that come with scikit-learn: dense; by RigL, which is sparse from
the first step to the last; to a lottery ticket by iterative magnitude pruning (imp) and by gates
(cs); and the ticket of imp again, with all tweaks that fit (retrained). It writes a TFLite file of
every network, without its dead units and zeros, the last one with 8-bit weights, runs the files,
and prints their bytes, accuracies and milliseconds. Use it to see what the library does: it takes
less than a minute on two cores and needs no network. It is the smallest `tf-lottery compare`.

With --full it runs the experiment of the lottery ticket paper, for several minutes: tickets level
by level down to about 5% density, the same masks with new random weights, and RigL.

  tf-lottery demo
  tf-lottery demo --full
  tf-lottery demo --dataset mnist --data-dir ~/tensorflow_datasets --out runs/mnist"""

_OUT = "runs/demo"
RESUME = "(the same command goes on where it stopped)"


def add_parser(commands):
    """Adds the subcommand.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands, "demo", run, "see each family of methods, in a minute", DESCRIPTION, RESUME
    )
    add_named_data(parser)
    add_jobs(parser)
    add_table_options(parser, _OUT)
    parser.set_defaults(out=None)
    parser.add_argument(
        "--seed",
        type=whole(0),
        metavar="N",
        default=0,
        help="decides initial weights and the order of the data (default: 0)",
    )
    full_demo.add_options(parser.add_argument_group("the full experiment"))


def run(args):
    """Runs the subcommand.

    Args:
        args: The parsed arguments.

    Raises:
        ValueError: If the folder holds a run with other arguments, or options exclude each other.
        OSError: If the data set is missing or the folder cannot be written.
        RuntimeError: If the backend is not TensorFlow, or runs have failed.
    """
    full_demo.check_options(args)
    args.out = args.out or (full_demo.OUT if args.full else _OUT)
    import_keras()
    if args.full:
        full_demo.run(args)
        return
    from tf_lottery.experiments.sweeps import Sweep, presets

    spec = presets.demonstration(
        args.dataset, data_dir=args.data_dir, download=args.download, seed=args.seed
    )
    train_and_show(args, Sweep.from_dict(spec), conclusions, jobs=args.jobs)


def conclusions(result):
    """Returns lines that say what the table of the demonstration shows, and what to do next.

    Args:
        result: `SweepResult` of `presets.demonstration`.
    """
    # Of a demonstration that has failed runs, the table alone is shown.
    if result.failed:
        return []
    rows = {row["run"].split("_")[0]: row for row in result.rows if "retrained" not in row}
    (retrained,) = (row for row in result.rows if "retrained" in row)
    dense, rigl, imp = rows["dense"], rows["rigl"], rows["imp"]
    lines = [
        f"- The ticket that was trained again keeps {retrained['density']:.0%} of the weights: "
        f"its file has {retrained['file_bytes'] / dense['file_bytes']:.0%} of the dense one's "
        f"bytes and {retrained['file_accuracy']:.1%} accuracy, the dense one "
        f"{dense['file_accuracy']:.1%}.",
    ]
    if None not in (dense["training_flops"], rigl["training_flops"], imp["training_flops"]):
        share, times = (row["training_flops"] / dense["training_flops"] for row in (rigl, imp))
        lines.append(
            f"- RigL needs {share:.0%} of the FLOPs of the dense training if zeros are skipped, "
            f"the search of the ticket {times:.1f} times as many."
        )
    return [*lines, "Next: tf-lottery compare --quick"]
