"""The options of `tf-lottery train` that belong to its methods."""

import argparse

from tf_lottery_cli.argument_types import fraction, number, positive, several, whole
from tf_lottery_cli.parser import DISTRIBUTIONS, MODES, REWINDS, SCOPES


def add_sparsity_options(group):
    """Adds the options for sparsity, distribution and pattern.

    Args:
        group: An argument group of the parser.
    """
    group.add_argument(
        "--sparsity", type=fraction, metavar="S", help="fraction of zeros (default: 0.9)"
    )
    group.add_argument(
        "--distribution",
        choices=DISTRIBUTIONS,
        help="how layers share the sparsity, for masks that start random or are scored before "
        "training, and gmp: erk (default of rigl, set, snfs, static without a pattern), er, or "
        "uniform",
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
    group.add_argument(
        "--rescale",
        action=argparse.BooleanOptionalAction,
        help="scale random masks' initial weights to the variance of a dense network: rigl, set, "
        "snfs, static (default: if the network has no normalization)",
    )


def add_update_options(group):
    """Adds the options of methods that change masks during training.

    Args:
        group: An argument group of the parser.
    """
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
        help="the step at which updates end, also of gmp (default: at 75%% of the training)",
    )


def add_imp_options(group):
    """Adds the options of iterative magnitude pruning.

    Args:
        group: An argument group of the parser.
    """
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
        help="the training step to go back to, also of cs (default: 0, the initial weights; for cs "
        "the step after two epochs)",
    )


def add_cs_options(group):
    """Adds the options of Continuous Sparsification.

    Args:
        group: An argument group of the parser.
    """
    group.add_argument(
        "--target-density",
        type=several(fraction),
        metavar="D[,D...]",
        help="the density to aim at; several values are separate runs, each in its own folder "
        "(default: the density that results from --initial-value)",
    )
    group.add_argument(
        "--exact-density",
        action="store_const",
        const=True,
        help="keep exactly that density, whatever the values of the gates",
    )
    group.add_argument(
        "--initial-value",
        type=several(number),
        metavar="S[,S...]",
        help="initial value of the gates: the higher, the denser; several values are separate "
        "runs; a minus needs an equals sign: --initial-value=-0.1,0.1 (default: 0)",
    )
    group.add_argument(
        "--gate-learning-rate",
        type=positive,
        metavar="R",
        help="train the gates by SGD at this rate, as the official code does at 0.1 (default: by "
        "the optimizer of the weights)",
    )
    group.add_argument("--rounds", type=whole(1), metavar="N", help="(default: 3)")
    group.add_argument(
        "--mode",
        choices=MODES,
        help="rewind the weights and train once more (ticket, default) or keep them (prune)",
    )
