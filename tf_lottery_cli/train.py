"""`tf-lottery train`: train a sparse network and save it."""

import sys

from tf_lottery_cli.parser import (
    DISTRIBUTIONS,
    METHODS,
    MODELS,
    REWINDS,
    SCOPES,
    add_command,
    add_data_options,
    add_run_options,
    fraction,
    options_of_method,
    positive,
    whole,
)
from tf_lottery_cli.terminal import import_keras

DESCRIPTION = """\
Trains a network to a sparsity and saves it as plain Keras model, as ticket and as results.json.
Use rigl to train sparse from the first step to the last: it moves connections to where the
gradient is largest (set: at random; snfs: by momentum; static: never). Use gmp for a good sparse
network from one training that starts dense and is pruned little by little. Use imp for a lottery
ticket: it trains, prunes and rewinds level by level, a training per level. snip, grasp and synflow
prune once, before training; dense prunes nothing, to compare with.

  tf-lottery train --method rigl --dataset mnist --sparsity 0.98 --epochs 10
  tf-lottery train --method gmp --dataset digits --sparsity 0.9 --epochs 20
  tf-lottery train --method imp --dataset mnist --sparsity 0.95 --rate 0.2 --epochs 3
  tf-lottery train --method rigl --dataset tiny_shakespeare --sparsity 0.75 --drop-fraction 0.1"""

RESUME = "(the same command goes on from the last epoch)"


def add_parser(commands):
    """Adds the subcommand.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands, "train", run, "train a sparse network, by one of ten methods", DESCRIPTION, RESUME
    )
    parser.add_argument(
        "--method", choices=METHODS, required=True, help="how zeros are chosen; see above"
    )
    add_data_options(parser)
    parser.add_argument(
        "--model",
        choices=MODELS,
        help="the network (default: lenet-300-100 for digits and mnist, conv-4-small for cifar10, "
        "gru for tiny_shakespeare)",
    )
    parser.add_argument(
        "--epochs",
        type=whole(1),
        default=10,
        metavar="N",
        help="epochs, of imp per level (default: 10)",
    )
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
    _add_sparsity_options(parser.add_argument_group("how sparse and where"))
    _add_update_options(parser.add_argument_group("options of --method rigl, set and snfs"))
    _add_imp_options(parser.add_argument_group("options of --method imp"))
    add_run_options(parser, "runs/train")


def _add_sparsity_options(group):
    group.add_argument(
        "--sparsity", type=fraction, metavar="S", help="fraction of zeros (default: 0.9)"
    )
    group.add_argument(
        "--distribution",
        choices=DISTRIBUTIONS,
        help="how layers share the sparsity that starts random or is scored before training: erk "
        "(default of rigl, set, snfs, static without a pattern), er, or uniform",
    )
    group.add_argument(
        "--scope",
        choices=SCOPES,
        help="rank all weights together (global, default) or layer by layer: gmp, imp, snip, "
        "grasp, synflow",
    )
    group.add_argument(
        "--pattern",
        metavar="P",
        help="unstructured (default), channel, N:M such as 2:4, or blocks such as 4x1",
    )


def _add_update_options(group):
    group.add_argument(
        "--drop-fraction",
        type=fraction,
        metavar="F",
        help="share of the connections that the first update moves, falling to 0 (default: 0.3)",
    )
    group.add_argument(
        "--frequency",
        type=whole(1),
        metavar="N",
        help="steps between two updates, also of gmp (default: 100, less in a short training)",
    )
    group.add_argument(
        "--end-step",
        type=whole(1),
        metavar="N",
        help="the step that ends them, also of gmp (default: at 75%% of the training)",
    )


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
    options = _options(args)
    import_keras()
    from rich.console import Console

    from tf_lottery.analysis import report
    from tf_lottery.experiments import data, training
    from tf_lottery_cli import inputs

    rate = options.pop("rate", None)
    settings = training.TrainSettings(
        method=args.method,
        model=args.model,
        epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        **options,
    )
    if rate is not None:
        settings = settings.with_rate(rate)
    arrays = data.load(args.dataset, args.data_dir, args.download)
    if args.fresh:
        training.remove_training(args.out)
    # Keras' bar is made of control characters; a file or a pipe gets a line per epoch.
    verbose = 1 if sys.stdout.isatty() else 2
    results = training.run_training(arrays, settings, args.out, args.seed, verbose)
    console = Console()
    console.print(report.summary(inputs.load_model(f"{args.out}/model.keras")))
    console.print(
        f"{_achieved(results)} at {results['density']:.2%} density\n"
        f"In {args.out}: model.keras (plain Keras), ticket.npz, results.json\n"
        f"Next: tf-lottery export {args.out}/model.keras",
        highlight=False,
        soft_wrap=True,
    )


def _achieved(results):
    text = f"Test accuracy {results['test_accuracy']:.2%}"
    if (bits := results.get("test_bits_per_character")) is not None:
        text += f", {bits:.3f} bits per character"
    return text


def _options(args):
    """Returns the options of the method that were given, checked before anything is imported."""
    given = options_of_method(args)
    if "levels" in given and "rate" in given:
        raise ValueError(
            "--levels and --rate exclude each other, since --sparsity decides the other one. "
            f"Received: --levels {args.levels} --rate {args.rate}"
        )
    return given
