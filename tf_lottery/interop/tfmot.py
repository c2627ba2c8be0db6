"""Reads schedules and pruned models of TensorFlow Model Optimization (TFMOT).

This module only reads objects of TFMOT that the user made. It imports neither TFMOT nor
`tf_keras`, so it works on every backend and does not change the environment or `tf.keras`. TFMOT
itself sets `TF_USE_LEGACY_KERAS=1` when it is imported, which makes `tf.keras` mean `tf_keras`,
unless `tf.keras` was accessed before: `import tensorflow as tf; tf.keras`.
"""

import sys
from typing import Any

import keras
import numpy as np

from tf_lottery._version import __version__
from tf_lottery.callbacks import GradualMagnitudePruning
from tf_lottery.checks import natural_number
from tf_lottery.interop.tf_keras_weights import is_a, paths_like_keras, paths_of
from tf_lottery.sparsity.schedules import Constant, Polynomial
from tf_lottery.ticket import Ticket

_ARGUMENTS = {
    "ConstantSparsity": {"target_sparsity", "begin_step", "end_step", "frequency"},
    "PolynomialDecay": {
        "initial_sparsity",
        "final_sparsity",
        "power",
        "begin_step",
        "end_step",
        "frequency",
    },
}
# The names of the weights that TFMOT prunes in the layers of Keras.
_PRUNED_NAMES = ("kernel", "recurrent_kernel", "pointwise_kernel", "embeddings")


def schedule(pruning_schedule: Any) -> Constant | Polynomial:
    """Translates a schedule of TFMOT.

    At every step at which TFMOT updates masks, the two schedules have the same value. They
    differ elsewhere:

    - Before `begin_step` the value is 0. TFMOT returns a value and a flag not to apply it.
    - The frequency is not part of the schedule but an argument of the callback;
      `pruning_callback` passes it on.
    - The end step of a `ConstantSparsity` is ignored: pruned weights stay pruned here, so
      nothing changes after the first update. TFMOT ranks all weights anew at each update.

    A schedule of your own needs no translation: callbacks take any function of the step to
    the sparsity with the attributes `begin_step` and `end_step`.

    Args:
        pruning_schedule: A `PolynomialDecay` or `ConstantSparsity` of
            `tensorflow_model_optimization.sparsity.keras`, or the dict that its `get_config`
            returns.

    Returns:
        A `tfl.sparsity.Polynomial` or `tfl.sparsity.Constant`.

    Raises:
        ValueError: If `pruning_schedule` is something else, a subclass included, or has steps
            that are not integers.

    Example:

    >>> config = {"target_sparsity": 0.5, "begin_step": 10, "end_step": -1, "frequency": 100}
    >>> tfl.interop.tfmot.schedule({"class_name": "ConstantSparsity", "config": config})
    Constant(value=0.5, begin_step=10)
    """
    kind, arguments = _read(pruning_schedule)
    begin_step = natural_number("begin_step", arguments["begin_step"])
    if kind == "ConstantSparsity":
        return Constant(float(arguments["target_sparsity"]), begin_step)
    return Polynomial(
        final_value=float(arguments["final_sparsity"]),
        end_step=natural_number("end_step", arguments["end_step"]),
        begin_step=begin_step,
        initial_value=float(arguments["initial_sparsity"]),
        power=float(arguments["power"]),
    )


def pruning_callback(pruning_schedule: Any, **arguments) -> GradualMagnitudePruning:
    """Makes the callback that prunes as `prune_low_magnitude` does with a TFMOT schedule.

    After every batch each kernel has the sparsity that TFMOT would give it, with three
    differences:

    - The last update is always at `end_step`, so that the final sparsity is reached even if
      `frequency` does not divide the number of steps.
    - With `begin_step=0`, pruning begins before the first batch. TFMOT counts the first batch as
      step 1 and waits until step `frequency`.
    - Pruned weights stay pruned.

    Args:
        pruning_schedule: As in `schedule`.
        **arguments: Further arguments of `tfl.callbacks.GradualMagnitudePruning`. `frequency`
            defaults to that of the schedule and `scope` to `"layer"`, as in TFMOT.

    Returns:
        A `tfl.callbacks.GradualMagnitudePruning`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> import tensorflow_model_optimization as tfmot
    >>> decay = tfmot.sparsity.keras.PolynomialDecay(0.0, 0.9, 0, end_step=5, frequency=1)
    >>> sparse = tfl.sparsify(model)
    >>> sparse.compile("adam", loss)
    >>> pruning = tfl.interop.tfmot.pruning_callback(decay)
    >>> history = sparse.fit(x, y, epochs=10, callbacks=[pruning], verbose=0)
    >>> sparse.sparsity
    0.9
    """
    _, read = _read(pruning_schedule)
    defaults = {"frequency": read["frequency"], "scope": "layer"}
    return GradualMagnitudePruning(schedule(pruning_schedule), **{**defaults, **arguments})


def ticket(pruned_model: Any, model: keras.Model | None = None) -> Ticket:
    """Makes a ticket from a `tf_keras` model that TFMOT pruned.

    If the model is still wrapped, the ticket has the masks of TFMOT. If it was stripped with
    `strip_pruning`, the masks are the zeros in kernels and embeddings, and kernels without
    zeros get no mask. Pruned weights are 0 in the ticket. To start from other weights, as a
    lottery ticket does, apply it with `weights=False` to a model that has them.

    TFMOT also prunes embeddings. The mask of one can only be applied to a sparse model made by
    `tfl.sparsify` with an `include` that selects it.

    Args:
        pruned_model: A built `tf_keras` model, wrapped by `prune_low_magnitude` as a whole or
            in some layers, or stripped.
        model: A built Keras 3 model of the same architecture, sparse or not, that gives the
            paths of the ticket; weights are matched by their order. Only needed if the names of
            layers differ by more than automatic numbers. Defaults to `None`: paths are built
            from the names of the layers, as in Keras 3.

    Returns:
        A `tfl.Ticket`.

    Raises:
        ValueError: If `pruned_model` is not a built `tf_keras` model, nothing in it is pruned,
            or the weights of `model` differ in number, name or shape.

    Example:

    >>> import tensorflow_model_optimization as tfmot
    >>> import tf_keras
    >>> plain = tf_keras.Sequential([tf_keras.layers.Dense(4, name="output", input_shape=(8,))])
    >>> pruned = tfmot.sparsity.keras.prune_low_magnitude(plain)
    >>> pruned.compile("adam", "mse")
    >>> update = tfmot.sparsity.keras.UpdatePruningStep()
    >>> history = pruned.fit(x, y, callbacks=[update], verbose=0)
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="output")])
    >>> tfl.interop.tfmot.ticket(pruned).apply(tfl.sparsify(model)).unmatched
    {}
    """
    if not is_a(pruned_model, "Model", "tf_keras") or not pruned_model.built:
        raise ValueError(
            "Argument `pruned_model` must be a built `tf_keras` model; for a sparse Keras 3 "
            "model, use `tfl.Ticket.from_model`. "
            f"Received: {type(pruned_model).__module__}.{type(pruned_model).__name__}"
        )
    # Compared by name: a wrapper loaded from a SavedModel has another class of the same name.
    wrappers = [
        part for part in pruned_model.submodules if type(part).__name__ == "PruneLowMagnitude"
    ]
    triples = [triple for wrapper in wrappers for triple in wrapper.pruning_vars]
    known = {id(weight): mask.numpy() != 0 for weight, mask, _ in triples}
    own = {id(variable) for _, *variables in triples for variable in variables}
    own.update(id(getattr(wrapper, "pruning_step", None)) for wrapper in wrappers)
    variables = [weight for weight in pruned_model.weights if id(weight) not in own]
    paths = names = paths_like_keras(pruned_model, variables, hidden=wrappers)
    if model is not None:
        paths = paths_of(model, pruned_model, variables, names)
    weights = {path: weight.numpy() for path, weight in zip(paths, variables, strict=True)}
    if wrappers:
        masks = {p: known[id(w)] for p, w in zip(paths, variables, strict=True) if id(w) in known}
    else:
        masks = _zeros(weights)
    if not masks:
        raise ValueError(
            "Argument `pruned_model` must be pruned by TFMOT: wrapped and built, or stripped and "
            f"with zeros in its kernels. Received: {pruned_model.name!r} without either"
        )
    # Between batches, pruned weights have the values that the optimizer gave them. The wrapper
    # sets them to 0 only before it uses them.
    weights.update((path, np.where(mask, weights[path], 0)) for path, mask in masks.items())
    return Ticket(masks, weights, provenance=_provenance(pruned_model))


def _read(pruning_schedule):
    """Returns the name of a schedule's class and the dict of its arguments."""
    config = pruning_schedule
    # Subclasses are refused, since they may compute something else.
    if type(pruning_schedule).__module__.split(".")[0] == "tensorflow_model_optimization":
        config = pruning_schedule.get_config()
    kind = config.get("class_name") if isinstance(config, dict) else None
    arguments = config.get("config") if kind in tuple(_ARGUMENTS) else None
    if not isinstance(arguments, dict) or not _ARGUMENTS[kind] <= set(arguments):
        raise ValueError(
            "Argument `pruning_schedule` must be a `PolynomialDecay` or `ConstantSparsity` of "
            "TFMOT, no subclass, or what its `get_config` returns. "
            f"Received: pruning_schedule={pruning_schedule!r}"
        )
    return kind, arguments


def _zeros(weights):
    """Returns masks of the kernels that have zeros."""
    return {
        path: weight != 0
        for path, weight in weights.items()
        if path.split("/")[-1].split("#")[0] in _PRUNED_NAMES and weight.ndim >= 2
        if not weight.all()
    }


def _provenance(model):
    version = getattr(sys.modules.get("tf_keras"), "__version__", None)
    return {"model": model.name, "tf_lottery": __version__, "tf_keras": version}
