"""The methods by name: their initial masks, and the callbacks that change masks."""

import math

import keras

from tf_lottery import at_init, callbacks
from tf_lottery._keras import all_layers
from tf_lottery.experiments import networks
from tf_lottery.experiments.compiling import own_loss
from tf_lottery.experiments.labels import takes_logits
from tf_lottery.layers import SoftGate
from tf_lottery.pruning import sparsify
from tf_lottery.retrain import rescale_to_density
from tf_lottery.sparsity import Polynomial

_RATE = 0.2


def levels_for(sparsity, rate):
    """Returns how many levels reach a sparsity if each prunes at most a share `rate`.

    Args:
        sparsity: Float in (0, 1).
        rate: Float in (0, 1).

    Example:

    >>> levels_for(sparsity=0.9, rate=0.2)
    11
    """
    return math.ceil(math.log(1.0 - sparsity) / math.log(1.0 - rate) - 1e-9)


def _default_distribution(settings):
    # ERK leaves small kernels denser than a pattern such as 2:4 allows.
    return "erk" if settings.option("pattern") == "unstructured" else "uniform"


def _default_levels(settings):
    return levels_for(settings.option("sparsity"), _RATE)


_STATIC = {
    "sparsity": 0.9,
    "distribution": _default_distribution,
    "pattern": "unstructured",
    "rescale": None,
}
_DYNAMIC = {**_STATIC, "drop_fraction": 0.3, "frequency": None, "end_step": None}
_RANKED = {"sparsity": 0.9, "scope": "global", "pattern": "unstructured"}
_AT_INIT = {**_RANKED, "distribution": None}

# The options of each method beside the common ones, with their defaults or functions of the
# settings that return these. What `None` means depends on the length of the training, for
# `distribution` on the scope, for `rescale` on the network.
OPTIONS: dict[str, dict] = {
    "rigl": _DYNAMIC,
    "set": _DYNAMIC,
    "snfs": _DYNAMIC,
    "static": _STATIC,
    "gmp": {**_AT_INIT, "frequency": None, "end_step": None},
    "snip": _AT_INIT,
    "grasp": _AT_INIT,
    "synflow": _AT_INIT,
    "imp": {**_RANKED, "levels": _default_levels, "rewind": "weights", "rewind_to_step": 0},
    "cs": {
        "rounds": 3,
        "target_density": None,
        "exact_density": False,
        "initial_value": 0.0,
        "gate_learning_rate": None,
        "rewind_to_step": None,
        "mode": "ticket",
    },
    "dense": {},
}
METHODS = tuple(OPTIONS)
ALL_OPTIONS = tuple(sorted({name for options in OPTIONS.values() for name in options}))
# Methods that train more than once, in one `fit`.
SEARCHES = ("imp", "cs")
DISTRIBUTIONS = ("uniform", "er", "erk")

_DYNAMIC_METHODS = {"rigl": callbacks.RigL, "set": callbacks.SET, "snfs": callbacks.SNFS}
# GraSP's paper scores ten examples of each class, the others fewer or none.
_SCORED_BATCHES = 4


def starting_model(data, settings, seed, steps=1):
    """Returns a sparse model, not compiled, with random masks if the method starts with them.

    Args:
        data: `Data`.
        settings: `TrainSettings` with a `model`.
        seed: Integer, decides initial weights and masks.
        steps: Integer, the length of a training, for the learning rate of gates. Defaults to `1`.

    Raises:
        ValueError: If the model does not fit the data, or the pattern or the distribution
            does not fit the model.
    """
    model = networks.build(settings.model, data, seed)
    if settings.method == "dense":
        return sparsify(model)
    if settings.method == "cs":
        return sparsify(model, gate=_gate(settings, steps))
    if settings.method != "static" and settings.method not in _DYNAMIC_METHODS:
        return sparsify(model, pattern=settings.option("pattern"))
    sparse = sparsify(
        model,
        settings.option("sparsity"),
        distribution=settings.option("distribution"),
        pattern=settings.option("pattern"),
        scores="random",
        seed=seed,
    )
    _check_pattern(sparse, settings.option("distribution"))
    rescale = settings.option("rescale")
    if rescale or (rescale is None and not _has_norms(model)):
        rescale_to_density(sparse)
    return sparse


def _has_norms(model):
    norms = (
        keras.layers.BatchNormalization,
        keras.layers.GroupNormalization,
        keras.layers.LayerNormalization,
    )
    return any(isinstance(layer, norms) for layer in all_layers(model))


def _gate(settings, steps):
    rate, optimizer = settings.option("gate_learning_rate"), None
    if rate is not None:
        # As in the official code: the schedule of the weights, without weight decay.
        schedule = settings.schedule_of(steps, rate)
        optimizer = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True)
    return SoftGate(settings.option("initial_value"), optimizer=optimizer)


def _check_pattern(model, distribution):
    for path, mask in model.to_matrices(model.get_masks(), model.pattern).items():
        if not mask.all() and not model.pattern.holds(mask):
            raise ValueError(
                "Argument `distribution` must leave every kernel as sparse as the pattern "
                f"{model.pattern} or dense; ask for another one or a higher `sparsity`. Received: "
                f"distribution={distribution!r}, which gives {path!r} density {mask.mean():.3f}"
            )


def prune_before_training(model, settings, batches):
    """Prunes a compiled model if the method does so before training.

    Args:
        model: A compiled `SparseModel`.
        settings: `TrainSettings`.
        batches: `ShuffledBatches`. Some methods use the gradients of the first ones.
    """
    prune = {"snip": at_init.snip, "grasp": at_init.grasp, "synflow": at_init.synflow}
    if settings.method not in prune:
        return
    scored = {"batches": batches, "steps": _SCORED_BATCHES}
    # Probabilities are not divided by a temperature.
    logits = own_loss(model) is None or takes_logits(model.model)
    grasp = {**scored, "temperature": 200 if logits else 1}
    how = {"snip": scored, "grasp": grasp, "synflow": {}}
    prune[settings.method](
        model,
        sparsity=settings.option("sparsity"),
        scope=settings.scope_of_ranks,
        distribution=settings.option("distribution"),
        **how[settings.method],
    )


def mask_updates(settings, steps, seed):
    """Returns the list of callbacks that change masks during one training.

    Args:
        settings: `TrainSettings` of a method that is not one of `SEARCHES`.
        steps: Integer, the length of the training.
        seed: Integer.

    Raises:
        ValueError: If `end_step` lies beyond the training.
    """
    if settings.end_step is not None and settings.end_step > steps:
        raise ValueError(
            f"Argument `end_step` must lie within the training, which has {steps} steps. "
            f"Received: end_step={settings.end_step}"
        )
    if settings.method in _DYNAMIC_METHODS:
        return [
            _DYNAMIC_METHODS[settings.method](
                frequency=settings.frequency or dynamic_frequency(steps),
                drop_fraction=settings.option("drop_fraction"),
                end_step=settings.end_step,
                **({"seed": seed} if settings.method == "set" else {}),
            )
        ]
    if settings.method != "gmp":
        return []
    # Pruning begins after some training, and leaves time to recover at the end.
    schedule = Polynomial(
        settings.option("sparsity"),
        begin_step=steps // 10,
        end_step=settings.end_step or 3 * steps // 4,
    )
    return [
        callbacks.GradualMagnitudePruning(
            schedule,
            frequency=settings.frequency or max(1, steps // 100),
            scope=settings.scope_of_ranks,
            distribution=settings.option("distribution"),
        )
    ]


def search_epochs(density, epochs, rate=_RATE):
    """Returns how many epochs iterative magnitude pruning trains to reach a density.

    Args:
        density: Float in (0, 1).
        epochs: Integer, the epochs of a level.
        rate: Float in (0, 1), the share of the weights that a level prunes. Defaults to `0.2`.

    Example:

    >>> search_epochs(density=0.1, epochs=10)
    120
    """
    return (levels_for(1.0 - density, rate) + 1) * epochs


def dynamic_frequency(steps):
    """Returns the steps between two updates: 100 as in the paper, or fewer.

    Args:
        steps: Integer, the length of the training. In a short one updates are more frequent.

    Example:

    >>> dynamic_frequency(10_000), dynamic_frequency(400)
    (100, 20)
    """
    return min(100, max(1, steps // 20))


def ticket_search(settings, steps_per_epoch, directory):
    """Returns the callback of a method that trains many times.

    Args:
        settings: `TrainSettings` of a method of `SEARCHES`.
        steps_per_epoch: Integer.
        directory: Folder of the search's files.

    Raises:
        ValueError: If `rewind_to_step` lies beyond the first level or round, or for `"cs"` not at
            the end of an epoch.
    """
    steps, rewind_to_step = settings.epochs * steps_per_epoch, settings.option("rewind_to_step")
    if rewind_to_step is not None and rewind_to_step >= steps:
        unit = "round" if settings.method == "cs" else "level"
        raise ValueError(
            f"Argument `rewind_to_step` must lie within the first {unit}, which has "
            f"{steps} steps. Received: rewind_to_step={rewind_to_step}"
        )
    if settings.method == "cs":
        return callbacks.ContinuousSparsification(
            epochs_per_round=settings.epochs,
            rounds=settings.option("rounds"),
            rewind_to_epoch=_epoch_of(rewind_to_step, steps_per_epoch),
            mode=settings.option("mode"),
            target_density=settings.option("target_density"),
            exact_density=settings.option("exact_density"),
            directory=directory,
        )
    return callbacks.IterativeMagnitudePruning(
        levels=settings.option("levels"),
        epochs_per_level=settings.epochs,
        rate=settings.rate,
        scope=settings.option("scope"),
        rewind=settings.option("rewind"),
        rewind_to_step=rewind_to_step,
        directory=directory,
    )


def _epoch_of(step, steps_per_epoch):
    if step is None:
        return None
    epoch, rest = divmod(step, steps_per_epoch)
    if rest:
        raise ValueError(
            "Argument `rewind_to_step` must be the end of an epoch with gates, whose epochs have "
            f"{steps_per_epoch} steps. Received: rewind_to_step={step}"
        )
    return epoch
