"""`tf-lottery train`: train a sparse network and save it."""

import sys

from tf_lottery_cli.parser import (
    MODELS,
    REWINDS,
    SCOPES,
    add_command,
    add_data_options,
    add_run_options,
    fraction,
    positive,
    whole,
)
from tf_lottery_cli.terminal import import_keras

DESCRIPTION = """\
Trains a network to a sparsity and saves it as plain Keras model, as ticket and as results.json.
Use gmp for a good sparse network at the price of one training: weights are pruned little by
little. Use imp for a lottery ticket: it trains, prunes and rewinds level by level, so that the
ticket trains from its early weights alone; it costs a training per level.

  tf-lottery train --method gmp --dataset digits --sparsity 0.9 --epochs 20
  tf-lottery train --method imp --dataset mnist --sparsity 0.95 --rate 0.2 --epochs 3"""

RESUME = "(the same command goes on from the last epoch)"


def add_parser(commands):
    """Adds the subcommand.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands, "train", run, "train a sparse network, by imp or gmp", DESCRIPTION, RESUME
    )
    parser.add_argument(
        "--method",
        choices=("imp", "gmp"),
        required=True,
        help="imp: iterative magnitude pruning; gmp: gradual magnitude pruning",
    )
    add_data_options(parser)
    parser.add_argument(
        "--model", choices=MODELS, default=MODELS[0], help="the network (default: %(default)s)"
    )
    parser.add_argument(
        "--sparsity",
        type=fraction,
        default=0.9,
        metavar="S",
        help="fraction of zeros (default: 0.9)",
    )
    parser.add_argument(
        "--epochs",
        type=whole(1),
        default=10,
        metavar="N",
        help="epochs, of imp per level (default: 10)",
    )
    parser.add_argument("--scope", choices=SCOPES, default="global", help=_SCOPE_HELP)
    parser.add_argument(
        "--batch-size", type=whole(1), default=60, metavar="N", help="(default: 60)"
    )
    parser.add_argument(
        "--learning-rate",
        type=positive,
        default=1.2e-3,
        metavar="R",
        help="of Adam (default: 0.0012)",
    )
    _add_imp_options(parser.add_argument_group("options of --method imp"))
    add_run_options(parser, "runs/train")


_SCOPE_HELP = "rank all weights together (global, default) or layer by layer"


def _add_imp_options(group):
    group.add_argument("--levels", type=whole(1), metavar="N", help="how many times to prune")
    group.add_argument(
        "--rate",
        type=fraction,
        metavar="R",
        help="instead of --levels: prune at most this share of what is left per level, in as few "
        "levels as reach the sparsity (default: 0.2)",
    )
    group.add_argument(
        "--rewind",
        choices=REWINDS,
        help="what goes back after pruning: weights and learning-rate schedule (weights, default), "
        "the schedule only (learning_rate), nothing (none)",
    )
    group.add_argument(
        "--rewind-to-step",
        type=whole(0),
        metavar="K",
        help="the training step to go back to (default: 0, the initial weights)",
    )


def run(args):
    """Runs the subcommand.

    Args:
        args: The parsed arguments.

    Raises:
        ValueError: If arguments do not fit, or the folder holds a run with others.
        OSError: If the data set is not there or the folder cannot be written.
    """
    imp_options = _imp_options(args)
    import_keras()
    from rich.console import Console

    from tf_lottery import report
    from tf_lottery.experiments import data, training
    from tf_lottery_cli import inputs

    if args.method == "imp" and args.levels is None:
        imp_options["levels"] = training.levels_for(args.sparsity, args.rate or 0.2)
    settings = training.TrainSettings(
        method=args.method,
        model=args.model,
        sparsity=args.sparsity,
        epochs=args.epochs,
        scope=args.scope,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        **imp_options,
    )
    arrays = data.load(args.dataset, args.data_dir, args.download)
    if args.fresh:
        training.remove_training(args.out)
    # Keras' bar is made of control characters; a file or a pipe gets a line per epoch.
    verbose = 1 if sys.stdout.isatty() else 2
    results = training.run_training(arrays, settings, args.out, args.seed, verbose)
    console = Console()
    console.print(report.summary(inputs.load_model(f"{args.out}/model.keras")))
    console.print(
        f"Test accuracy {results['test_accuracy']:.2%} at {results['density']:.2%} density\n"
        f"In {args.out}: model.keras (plain Keras), ticket.npz, results.json\n"
        f"Next: tf-lottery export {args.out}/model.keras",
        highlight=False,
        soft_wrap=True,
    )


def _imp_options(args):
    """Returns the options of imp that were given, checked before anything is imported."""
    names = ("levels", "rate", "rewind", "rewind_to_step")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.method != "imp" and given:
        option = f"--{next(iter(given)).replace('_', '-')}"
        raise ValueError(f"{option} is an option of --method imp. Received: --method {args.method}")
    if "levels" in given and "rate" in given:
        raise ValueError(
            "--levels and --rate exclude each other, since --sparsity decides the other one. "
            f"Received: --levels {args.levels} --rate {args.rate}"
        )
    given.pop("rate", None)
    return given
