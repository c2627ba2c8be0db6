"""Prepares all tweaks of retraining in one call."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from tf_lottery.callbacks import ActivationAnnealing, DistillationStop, GhostSkipAnnealing
from tf_lottery.checks import number_above, positive_integer
from tf_lottery.layers.ghost_skips import GhostSkips
from tf_lottery.layers.soft_activations import SoftActivations
from tf_lottery.model import SparseModel, check_settled
from tf_lottery.printable import Printable, plain_table
from tf_lottery.retrain._ghost_skips import ghost_skips, remove_ghost_skips
from tf_lottery.retrain._rescaled_initialization import rescaled_initialization
from tf_lottery.retrain._soft_activations import remove_soft_activations, soft_activations
from tf_lottery.retrain.distillation import distill, remove_distillation
from tf_lottery.retrain.label_smoothing import SmoothedCrossentropy
from tf_lottery.retrain.outputs import check_from_logits
from tf_lottery.retrain.suitable_tweaks import chosen_tweaks


@dataclasses.dataclass(frozen=True, eq=False)
class Recipe(Printable):
    """How a model is going to be retrained.

    Args:
        model: The `SparseModel`, with the tweaks.
        loss: The loss to compile it with.
        callbacks: List of callbacks to pass to `fit`.
        steps: Integer, the length of the training.
        schedule: Dict of tweaks to `(begin_step, end_step)`, between which they are in effect.
        rescaling: The `RescalingReport` of the rescaled initialization, or `None`.
        keeps_ghosts: Whether ghost skips stay in the network.

    Example:

    >>> recipe = tfl.retrain.recipe(sparse, steps=10)
    >>> recipe.schedule
    {'soft_activations': (0, 5), 'label_smoothing': (0, 10)}
    >>> sparse.compile("adam", recipe.loss, metrics=["accuracy"])
    >>> history = sparse.fit(x, y, epochs=10, callbacks=recipe.callbacks, verbose=0)
    >>> recipe.remove()
    """

    model: SparseModel
    loss: Any
    callbacks: list
    steps: int
    schedule: dict
    rescaling: object = None
    keeps_ghosts: bool = False

    def remove(self) -> None:
        """Removes the tweaks, which leaves the plain sparse model, or that with ghost skips.

        A model that had ghost skips has to be compiled again before it can use its loss.

        Raises:
            ValueError: If annealing has not ended yet.
        """
        soft = self.model.find_part(SoftActivations)
        ghosts = self.model.find_part(GhostSkips)
        left = {}
        if soft is not None and float(soft.softness):
            left["soft_activations"] = f"beta {soft.beta:.3g}"
        if ghosts is not None and float(ghosts.factor) and not self.keeps_ghosts:
            left["ghost_skips"] = f"factor {float(ghosts.factor):.3g}"
        if left:
            ends = {name: self.schedule[name][1] for name in left}
            raise ValueError(
                "Argument `model` must have been trained to the end of the recipe with its "
                "callbacks, and no other callback may have restored earlier weights. "
                f"Received: {left}, to be annealed until the steps {ends}"
            )
        _remove_tweaks(self.model, self.keeps_ghosts)

    def __rich__(self):
        """Returns the schedule as a table."""
        title = f"Retraining of {self.model.name}, {self.steps:,} steps"
        table = plain_table("tweak", "from step", "to step", title=title, title_justify="left")
        for tweak, (begin, end) in self.schedule.items():
            table.add_row(tweak.replace("_", " "), f"{begin:,}", f"{end:,}")
        return table


def recipe(
    model: SparseModel,
    steps: int,
    batches: Any = None,
    tweaks: tuple[str, ...] | None = None,
    teacher: keras.Model | None = None,
    annealed: float = 0.5,
    activation: str = "swish",
    smoothing: float = 0.1,
    alpha: float = 0.474,
    temperature: float = 5.0,
    distilled: float = 1.0,
    from_logits: bool = True,
    loss: str | Callable | None = None,
    rescaling_iterations: int = 180,
    keep_ghosts: bool = False,
) -> Recipe:
    """Prepares a sparse model for retraining with several tweaks at once.

    The tweaks are those of "Training Your Sparse Neural Network Better with Any Mask"
    (arXiv:2206.12755): soft activations, ghost skips, rescaled initialization and label
    smoothing, and distillation if there is a teacher. Initial weights are rescaled in this
    call, for the smoothed loss, with soft activations and ghost skips in effect. These two are
    annealed linearly from the first step on; label smoothing lasts to the end. A tweak that the
    model cannot have, such as ghost skips without convolutions, is refused.

    Which tweaks help depends on the length of the training. The paper retrains for 64,000 steps;
    in 750 steps ghost skips cost about two points and a teacher three and more, as
    `benchmarks/retraining_cifar10_short.py` shows. Trainings below `LONG_TRAINING`, 10,000 steps,
    are therefore without them unless `tweaks` names them; where between these lengths they begin
    to help was not measured. In the released code ghost skips are never removed: the network that
    it reports has them. Here they fade, so that the result is the plain sparse network.

    Steps are the optimizer's: compile the model again, as in the example, so that they begin
    at 0. Callbacks that restore earlier weights, such as `EarlyStopping`, should start after
    annealing has ended.

    Args:
        model: A `SparseModel` with the ticket's masks and weights.
        steps: Integer > 0, the length of the training.
        batches: Training batches for the rescaled initialization; see
            `rescaled_initialization`. Defaults to `None`, for a recipe without that tweak.
        tweaks: Tuple of names from `tfl.retrain.TWEAKS`. Defaults to `None`: all that are
            possible, in a short training without ghost skips and distillation. Distillation
            needs `teacher`, rescaled initialization needs `batches`, soft activations need a
            model with rectifiers and ghost skips one with masked convolutions.
        teacher: A built `keras.Model`; see `distill`. Defaults to `None`.
        annealed: Float in (0, 1], the share of the steps at which annealing ends. Defaults to
            `0.5`.
        activation: String; see `soft_activations`. Defaults to `"swish"`.
        smoothing: Float in [0, 1), the probability that is taken from the true class.
            Defaults to `0.1`.
        alpha: Float in [0, 1]; see `distill`. Defaults to `0.474`.
        temperature: Float > 0; see `distill`. Defaults to `5.0`.
        distilled: Float in (0, 1], the share of the steps with the teacher. Defaults to `1.0`.
        from_logits: Whether the model's outputs are logits and not probabilities. Defaults to
            `True`.
        loss: Keras loss that replaces the cross-entropy of integer labels; it excludes label
            smoothing. Defaults to `None`.
        rescaling_iterations: Integer > 0; see `rescaled_initialization`. Defaults to `180`.
        keep_ghosts: Whether ghost skips stay at full strength and in the network, as in the
            released code. This is another network than the ticket: every 3x3 convolution has a
            dense branch of a ninth of its kernel, in all three times the weights at 5.5%
            density. `tfl.summary` and `tfl.flops` count them, and `tfl.strip` and the exports
            refuse the model. Defaults to `False`.

    Returns:
        A `Recipe`: the loss to compile the model with, the callbacks to train it with, a
        schedule to print, and `remove` to call after training.

    Raises:
        ValueError: If an argument is outside its range, a tweak lacks what it needs or the
            model has tweaks already.

    Example:

    >>> recipe = tfl.retrain.recipe(sparse, steps=10, batches=(x, y), rescaling_iterations=5)
    >>> sparse.compile("adam", recipe.loss, metrics=["accuracy"])
    >>> history = sparse.fit(x, y, epochs=10, callbacks=recipe.callbacks, verbose=0)
    >>> recipe.remove()
    """
    check_settled(model)
    if model.tweaks:
        raise ValueError(
            "Argument `model` must not have tweaks yet; remove them first. "
            f"Received: {[tweak.name for tweak in model.tweaks]}"
        )
    steps = positive_integer("steps", steps)
    ends = _ends(steps, annealed, distilled, keep_ghosts)
    chosen = chosen_tweaks(model, steps, tweaks, batches, teacher)
    if keep_ghosts and "ghost_skips" not in chosen:
        raise ValueError(
            "Argument `keep_ghosts` needs 'ghost_skips' in `tweaks`; short trainings are without "
            f"them unless named. Received: keep_ghosts={keep_ghosts}, tweaks={chosen}"
        )
    check_from_logits(model.model, from_logits)
    loss = _loss(chosen, loss, smoothing, from_logits)
    rescaling = None
    try:
        if "soft_activations" in chosen:
            soft_activations(model, activation)
        if "ghost_skips" in chosen:
            ghost_skips(model)
        if "distillation" in chosen:
            distill(model, teacher, alpha, temperature, from_logits)
        if "rescaled_initialization" in chosen:
            rescaling = rescaled_initialization(
                model, batches, loss, iterations=rescaling_iterations
            )
    except BaseException:
        _remove_tweaks(model)
        raise
    schedule = {name: (0, ends[name]) for name in chosen}
    callbacks = _callbacks(chosen, ends, steps, keep_ghosts)
    return Recipe(model, loss, callbacks, steps, schedule, rescaling, keep_ghosts)


def _ends(steps, annealed, distilled, keep_ghosts):
    """Returns a dict of all tweaks to the steps at which they end."""
    annealing = _end("annealed", annealed, steps)
    return {
        "soft_activations": annealing,
        "ghost_skips": steps if keep_ghosts else annealing,
        "rescaled_initialization": 0,
        "label_smoothing": steps,
        "distillation": _end("distilled", distilled, steps),
    }


def _end(name, share, steps):
    """Returns the step at which a share of the training is over."""
    if number_above(name, share, 0) > 1:
        raise ValueError(f"Argument `{name}` must be in (0, 1]. Received: {name}={share}")
    return max(1, round(share * steps))


def _callbacks(chosen, ends, steps, keep_ghosts):
    """Returns a list of the callbacks that anneal or end the tweaks."""
    callbacks = []
    if "soft_activations" in chosen:
        callbacks.append(ActivationAnnealing(ends["soft_activations"]))
    if "ghost_skips" in chosen and not keep_ghosts:
        callbacks.append(GhostSkipAnnealing(ends["ghost_skips"]))
    if "distillation" in chosen and ends["distillation"] < steps:
        callbacks.append(DistillationStop(end_step=ends["distillation"]))
    return callbacks


def _loss(chosen, loss, smoothing, from_logits):
    """Returns the loss to train with."""
    if "label_smoothing" not in chosen:
        return loss or keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
    if loss is not None:
        raise ValueError(
            "Argument `loss` must be `None` with label smoothing, which is a loss itself; or "
            f"leave label smoothing out of `tweaks`. Received: loss={loss!r}, tweaks={chosen}"
        )
    return SmoothedCrossentropy(smoothing, from_logits=from_logits)


def _remove_tweaks(model, keep_ghosts=False):
    remove_soft_activations(model)
    if not keep_ghosts:
        remove_ghost_skips(model)
    remove_distillation(model)
