"""TensorFlow Model Optimization: its schedules and the masks of its pruned models.

What is handed in was made by whoever imported TFMOT; here it is only read. This module imports
neither TFMOT nor `tf_keras`, so that it leaves the environment and `tf.keras` alone, and works
on every backend. TFMOT itself sets `TF_USE_LEGACY_KERAS=1` on import and makes `tf.keras` be
`tf_keras`, unless something touched `tf.keras` before: `import tensorflow as tf; tf.keras`.
"""

import sys

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
# What TFMOT prunes in the layers of Keras.
_PRUNED_NAMES = ("kernel", "recurrent_kernel", "pointwise_kernel", "embeddings")


def schedule(pruning_schedule):
    """Translates a schedule of TFMOT.

    At every step at which TFMOT updates masks the value is TFMOT's. In between and at the
    edges the two differ:

    - before `begin_step` it is 0, where TFMOT returns a value and says that it is not applied;
    - the frequency is an argument of the callback here, `pruning_callback` takes it over;
    - a `ConstantSparsity` has no end: nothing changes after its first update, since what is
      pruned stays pruned. TFMOT ranks all weights anew at each update.

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


def pruning_callback(pruning_schedule, **arguments):
    """Makes the callback that prunes as `prune_low_magnitude` with a schedule would.

    After every batch each kernel has the sparsity that TFMOT would give it, but for three
    things. The last update is at `end_step`, also if the frequency does not divide the way, so
    that the final sparsity is reached. With `begin_step=0` pruning begins before the first
    batch, where TFMOT, whose first batch is step 1, waits for the step `frequency`. And what is
    pruned stays pruned.

    Args:
        pruning_schedule: As of `schedule`.
        **arguments: Further arguments of `tfl.callbacks.GradualMagnitudePruning`. `frequency`
            defaults to the schedule's and `scope` to `"layer"`, as in TFMOT.

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


def ticket(pruned_model, model=None):
    """Makes a ticket of a `tf_keras` model that TFMOT pruned.

    Of a model that is still wrapped the masks are TFMOT's. Of one that `strip_pruning` made they
    are the zeros in kernels and embeddings; those without zeros get no mask. Pruned weights are
    0 in the ticket. To start from other weights, as a lottery ticket does, apply it with
    `weights=False` to a model that has them.

    Embeddings, which TFMOT prunes too, have a mask in the model that the ticket is applied to
    only if `tfl.sparsify` was asked to `include` them.

    Args:
        pruned_model: A built `tf_keras` model, wrapped by `prune_low_magnitude`, wholly or in
            some layers, or stripped.
        model: A built Keras 3 model of the same architecture, sparse or not, for the paths of
            the ticket; weights are then paired in their order. Needed only if names of layers
            differ other than by automatic numbers. Defaults to `None`: paths are made of the
            names of the layers, as Keras 3 does.

    Returns:
        A `tfl.Ticket`.

    Raises:
        ValueError: If `pruned_model` is no built `tf_keras` model or nothing in it is pruned, or
            the weights of `model` differ in number, name or shape.

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
            "Argument `pruned_model` must be a built `tf_keras` model; of a sparse Keras 3 model "
            "`tfl.Ticket.from_model` makes a ticket. "
            f"Received: {type(pruned_model).__module__}.{type(pruned_model).__name__}"
        )
    # A wrapper that was loaded from a SavedModel has a class of `tf_keras` with the same name.
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
    # Between two batches pruned weights hold what the optimizer made of them, which the wrapper
    # sets to 0 before it uses them.
    weights.update((path, np.where(mask, weights[path], 0)) for path, mask in masks.items())
    return Ticket(masks, weights, provenance=_provenance(pruned_model))


def _read(pruning_schedule):
    """Returns the name of a schedule's class and the dict of its arguments."""
    config = pruning_schedule
    # The class itself, since a subclass may compute something else.
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
