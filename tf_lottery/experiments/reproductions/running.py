"""Runs the training of a paper, and compares what it ends with."""

import math
import pathlib

from tf_lottery.analysis._flops import flops
from tf_lottery.experiments import networks
from tf_lottery.experiments.retraining import remove_retraining, run_retraining
from tf_lottery.experiments.training import remove_training, run_training
from tf_lottery.pruning import sparsify
from tf_lottery.ticket import Ticket


def run_reproduction(reproduction, data, directory, seed=0, verbose="auto"):
    """Trains as a paper did, and compares accuracy, FLOPs and bytes with what it reports.

    Call this again to resume a run that was killed; see `run_training`.

    Args:
        reproduction: A `Reproduction`.
        data: What `loading.load` or `loading.make` returned.
        directory: Folder, made if it does not exist, for the run in `train` and, for tickets,
            the one in `retrain`.
        seed: Integer. Defaults to `0`.
        verbose: As in `fit`. Defaults to `"auto"`.

    Returns:
        Dict of `source`, `found` and `published`, the last two dicts of the same names to numbers,
        and `results`, those of the last training.

    Raises:
        ValueError: As `run_training` and `run_retraining`.
        OSError: If `directory` cannot be written.

    Example:

    >>> from tf_lottery.experiments.reproductions import REPRODUCTIONS, make
    >>> chosen = REPRODUCTIONS["gru-rigl-75-wikitext103"].shortened(batch_size=2, steps=2)
    >>> report = run_reproduction(chosen, make(chosen, count=4), "runs/reproduce", verbose=0)
    >>> round(report["found"]["inference_flops"], 2)
    0.25
    """
    directory = pathlib.Path(directory)
    results = run_training(data, reproduction.settings, directory / "train", seed, verbose)
    if reproduction.retraining is not None:
        ticket = Ticket.load(directory / "train" / "ticket.npz")
        results = run_retraining(
            data, reproduction.retraining, ticket, directory / "retrain", seed=seed, verbose=verbose
        )
    found = {"test_accuracy": results["test_accuracy"], **count(reproduction, data, seed)}
    return {
        "source": reproduction.source,
        "found": found,
        "published": dict(reproduction.published),
        "results": results,
    }


def count(reproduction, data, seed=0):
    """Returns parameters, FLOPs and bytes of a paper's sparse network, by the paper's rules.

    Args:
        reproduction: A `Reproduction`.
        data: What `loading.load` or `loading.make` returned.
        seed: Integer. Defaults to `0`.

    Returns:
        Dict of `parameters`, the trainable ones of the dense network, and of the sparse network's
        `inference_flops`, a fraction of the dense one's, `megaflops` and `megabytes`; see the
        convention `"micronet"` of `tfl.flops`.

    Example:

    >>> from tf_lottery.experiments.reproductions import REPRODUCTIONS, make
    >>> chosen = REPRODUCTIONS["mobilenet-v1-rigl-75"]
    >>> found = count(chosen, make(chosen, count=4, image_size=32))
    >>> found["parameters"], round(found["megabytes"], 2)
    (4231976, 4.89)
    """
    settings = reproduction.settings
    model = networks.build(settings.model, data, seed)
    sparsity = settings.sparsity or 1.0 - settings.target_density
    distribution = settings.distribution if settings.method == "rigl" else None
    sparse = sparsify(model, sparsity, distribution=distribution)
    report = flops(sparse, "micronet")
    return {
        "parameters": sum(math.prod(v.shape) for v in model.trainable_variables),
        "inference_flops": report.ratio,
        "megaflops": report.sparse / 1e6,
        "megabytes": report.num_bytes["bitmask"] / 1e6,
    }


def remove_reproduction(directory):
    """Deletes the files of a run in a folder, and no others.

    Args:
        directory: The folder.

    Example:

    >>> remove_reproduction("runs/reproduce")
    """
    remove_training(pathlib.Path(directory) / "train")
    remove_retraining(pathlib.Path(directory) / "retrain")
