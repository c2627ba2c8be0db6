"""`tf-lottery compare`: all families of methods in one table."""

import os

from tf_lottery_cli.argument_types import fraction, several, whole
from tf_lottery_cli.data_options import IMAGES, add_folder_options
from tf_lottery_cli.parser import PRECISIONS, add_command
from tf_lottery_cli.sweep_table import add_table_options, train_and_show
from tf_lottery_cli.terminal import import_keras

# Repeated here, since the module that defines them imports Keras.
COMPARED = ("dense", "static", "set", "rigl", "snip", "synflow", "gmp", "imp", "cs", "retrained")

DESCRIPTION = """\
Trains a network by every family of methods and shows what each reaches and costs. Use it to choose
a method for data like yours. It compares dense training; a fixed random mask (static); SET and
RigL, which move connections; SNIP and SynFlow, which prune before training; gradual pruning (gmp);
lottery tickets by iterative magnitude pruning (imp) and by gates (cs); and the ticket of imp
trained again with all tweaks that fit (retrained). Every training has as many epochs. A search has
many trainings: the table has the steps and FLOPs of all of them, and the bytes, accuracy and
milliseconds of a TFLite file of every network, which was compared with Keras. It is a sweep: the
same command goes on where it stopped, and tf-lottery list shows its runs.

  tf-lottery compare --quick
  tf-lottery compare --methods gmp,rigl,static --sparsity 0.9,0.98 --out runs/three
  tf-lottery compare --dataset mnist --data-dir ~/tensorflow_datasets --jobs 4"""

RESUME = "(the same command goes on where it stopped)"


def add_parser(commands):
    """Adds the subcommand.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands, "compare", run, "compare all families of methods", DESCRIPTION, RESUME
    )
    add_named_data(parser)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="95%% sparsity, one seed, few epochs: about a minute with digits on two cores",
    )
    parser.add_argument(
        "--methods",
        type=several(str),
        metavar="M[,M...]",
        help=f"some of {', '.join(COMPARED)} (default: all)",
    )
    parser.add_argument(
        "--sparsity",
        type=several(fraction),
        metavar="S[,S...]",
        help="fractions of zeros (default: 0.9,0.95,0.98)",
    )
    parser.add_argument(
        "--epochs",
        type=whole(1),
        metavar="N",
        help="epochs of a training, for imp of a level, for cs of a round (default: 30 for digits, "
        "5 for mnist, 10 for cifar10)",
    )
    parser.add_argument(
        "--seeds", type=whole(1), metavar="N", help="how many seeds to train with (default: 3)"
    )
    parser.add_argument(
        "--quantize", choices=PRECISIONS, help="precision of the files (default: float32)"
    )
    add_jobs(parser)
    add_table_options(parser, "runs/compare")


def add_named_data(parser):
    """Adds the options of the data sets that presets have settings for.

    Args:
        parser: A `Parser`.
    """
    parser.add_argument(
        "--dataset",
        choices=IMAGES,
        default="digits",
        help="digits (default) comes with scikit-learn; the others are read through TensorFlow "
        "Datasets, cifar10 at 16 of its 32 pixels",
    )
    add_folder_options(parser)


def add_jobs(parser):
    """Adds the number of processes.

    Args:
        parser: A `Parser`.
    """
    cores = min(2, os.cpu_count() or 1)
    parser.add_argument(
        "--jobs",
        type=whole(1),
        default=cores,
        metavar="N",
        help=f"train in N processes at once (default here: {cores})",
    )


def run(args):
    """Runs the subcommand.

    Args:
        args: The parsed arguments.

    Raises:
        ValueError: If a method is unknown, or the folder holds other runs.
        OSError: If the data set is missing or the folder cannot be written.
        RuntimeError: If the backend is not TensorFlow, or runs have failed.
    """
    methods = COMPARED if args.methods is None else tuple(args.methods)
    if unknown := [name for name in methods if name not in COMPARED]:
        raise ValueError(
            f"--methods must be names of {', '.join(COMPARED)}, separated by commas. "
            f"Received: --methods {','.join(unknown)}"
        )
    import_keras()
    from tf_lottery.experiments.sweeps import Sweep, presets

    spec = presets.comparison(
        args.dataset,
        methods=methods,
        sparsity=args.sparsity,
        quick=args.quick,
        epochs=args.epochs,
        seeds=args.seeds,
        export=args.quantize or "float32",
        data_dir=args.data_dir,
        download=args.download,
    )
    train_and_show(args, Sweep.from_dict(spec), jobs=args.jobs)
