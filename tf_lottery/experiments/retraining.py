"""Retraining of a ticket, with tweaks or as a control, resumable."""

import dataclasses
import functools
import hashlib
import pathlib

import keras
import numpy as np

from tf_lottery import controls
from tf_lottery.checks import choice
from tf_lottery.experiments import networks
from tf_lottery.experiments.checkpoint import Checkpoint
from tf_lottery.experiments.data import ShuffledBatches
from tf_lottery.experiments.run_folder import (
    check_settings,
    read_json,
    remove_files,
    save_model,
    write_json,
)
from tf_lottery.experiments.training import evaluate
from tf_lottery.pruning import sparsify
from tf_lottery.retrain import TWEAKS, recipe
from tf_lottery.strip import strip

FILES = ("checkpoint.npz", "model.keras", "results.json", "settings.json", "ticket.npz")
_EVALUATED = 1000


# What can be retrained in place of the ticket: functions of the ticket, of a function of a seed to
# a network with new weights, and of a seed.
CONTROLS = {
    "random_reinitialization": lambda ticket, build, seed: controls.random_reinitialization(
        ticket, build(seed)
    ),
    "sign_kept_reinitialization": lambda ticket, build, seed: controls.random_reinitialization(
        ticket, build(seed), keep_signs=True
    ),
    "shuffled_masks": lambda ticket, build, seed: controls.shuffle_masks(ticket, seed),
    "random_masks": lambda ticket, build, seed: controls.random_masks(ticket, seed, "erk"),
    "constant_weights": lambda ticket, build, seed: controls.constant_weights(ticket),
}
# Far from the seeds of the replicates, whose initial weights a ticket has.
_NEW_WEIGHTS = 1000


@dataclasses.dataclass(frozen=True)
class RetrainSettings:
    """The hyperparameters of a retraining.

    Args:
        model: A key of `networks.MODELS`, the ticket's network.
        tweaks: Tuple of names from `tfl.retrain.TWEAKS`. Defaults to none: plain retraining.
        control: A key of `CONTROLS`, what to train in place of the ticket. Defaults to `None`.
        epochs: Integer.
        steps_per_epoch: Integer. Defaults to `None`: one pass through the data.
        batch_size: Integer.
        learning_rate: Float, of Adam at first; it falls to 0 along a cosine.
        annealed: Float in (0, 1]; see `tfl.retrain.recipe`.
        activation: String; see `tfl.retrain.soft_activations`.
        alpha: Float in [0, 1]; see `tfl.retrain.distill`.
        temperature: Float > 0; see `tfl.retrain.distill`.

    Raises:
        ValueError: If an argument is outside its range.
    """

    model: str
    tweaks: tuple = ()
    control: str | None = None
    epochs: int = 10
    steps_per_epoch: int | None = None
    batch_size: int = 60
    learning_rate: float = 1.2e-3
    annealed: float = 0.5
    activation: str = "swish"
    alpha: float = 0.9
    temperature: float = 5.0

    def __post_init__(self):
        choice("model", self.model, tuple(networks.MODELS))
        for name in self.tweaks:
            choice("tweaks", name, TWEAKS)
        if self.control is not None:
            choice("control", self.control, tuple(CONTROLS))


def run_retraining(data, settings, ticket, directory, teacher=None, seed=0, verbose="auto"):
    """Trains a ticket again and saves the network, without the tweaks it was trained with.

    A run that was killed goes on from its last epoch when it is called again, and ends with
    the same weights.

    Args:
        data: `Data`.
        settings: `RetrainSettings`.
        ticket: `Ticket` of the network `settings.model`.
        directory: Folder, made if it does not exist, for `model.keras`, the stripped network;
            `ticket.npz`, what was trained; `results.json`.
        teacher: A built `keras.Model`, for distillation. Defaults to `None`.
        seed: Integer, decides the order of the data and what is random in a control. Defaults
            to `0`.
        verbose: As in `fit`. Defaults to `"auto"`.

    Returns:
        Dict of `settings`, `density`, `epochs`, `test_accuracy`, `test_loss`, for text
        `test_bits_per_character`, and `history`.

    Raises:
        ValueError: If an argument is outside its range, the ticket is one of another network,
            a tweak lacks what it needs, or `directory` holds a run with other arguments.
        OSError: If `directory` cannot be written.

    Example:

    >>> settings = RetrainSettings("lenet-300-100", tweaks=("soft_activations",))
    >>> run_retraining(data.load("digits"), settings, ticket, "runs/retrain")["density"]
    0.1
    """
    directory = pathlib.Path(directory)
    all_settings = {
        "dataset": data.name,
        "seed": seed,
        "ticket": _digest(ticket),
        **dataclasses.asdict(settings),
    }
    check_settings(directory, all_settings)
    if (directory / "results.json").exists():
        return read_json(directory / "results.json")
    if settings.control is not None:
        build = functools.partial(networks.build, settings.model, data)
        ticket = CONTROLS[settings.control](ticket, build, _NEW_WEIGHTS + seed)
    model = _apply(ticket, networks.build(settings.model, data, seed))
    batches = ShuffledBatches(*data.train, settings.batch_size, settings.steps_per_epoch, seed=seed)
    checkpoint = Checkpoint(directory / "checkpoint.npz")
    prepared = _prepare(model, settings, batches, teacher)
    _compile(model, prepared.loss, settings, prepared.steps)
    model.fit(
        batches,
        epochs=settings.epochs,
        shuffle=False,
        validation_data=data.validation,
        validation_batch_size=_EVALUATED,
        callbacks=[batches.follow_epoch(), checkpoint, *prepared.callbacks],
        verbose=verbose,
    )
    prepared.remove()
    # Without label smoothing, so that losses can be compared.
    _compile(model, recipe(model, 1, tweaks=()).loss, settings, prepared.steps)
    save_model(strip(model), directory / "model.keras")
    ticket.save(directory / "ticket.npz")
    results = {
        "settings": all_settings,
        "density": model.density,
        "epochs": settings.epochs,
        **evaluate(model, data),
        "history": checkpoint.history,
    }
    write_json(directory / "results.json", results)
    return results


def remove_retraining(directory):
    """Deletes the files that `run_retraining` has written into a folder, and no others.

    Args:
        directory: The folder.
    """
    remove_files(directory, FILES)


def _apply(ticket, plain):
    model = sparsify(plain)
    match = ticket.apply(model)
    if match.unmatched:
        raise ValueError(
            f"Argument `ticket` must be one of the network {plain.name!r}. "
            f"Received: a ticket that does not fit in {match.unmatched}"
        )
    return model


def _prepare(model, settings, batches, teacher):
    return recipe(
        model,
        settings.epochs * len(batches),
        batches,
        tweaks=settings.tweaks,
        teacher=teacher,
        annealed=settings.annealed,
        activation=settings.activation,
        alpha=settings.alpha,
        temperature=settings.temperature,
    )


def _compile(model, loss, settings, steps):
    rate = keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps)
    model.compile(
        keras.optimizers.Adam(rate),
        loss,
        metrics=["accuracy"],
        # On TensorFlow XLA makes convolutions on a CPU slower.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )


def _digest(ticket):
    """Returns a few characters that tell tickets apart."""
    digest = hashlib.sha256()
    for arrays in (ticket.masks, ticket.weights):
        for array in arrays.values():
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
