"""The training state of a model at one moment, and how to go back to it."""

import keras
from keras import ops

from tf_lottery import files
from tf_lottery.layers import Gated, Masked
from tf_lottery.layers.kernels import unique_paths
from tf_lottery.layers.tweak import all_layers
from tf_lottery.optimizers import slots

PARTS = (
    "weights",
    "masks",
    "gates",
    "growth",
    "tweaks",
    "seeds",
    "optimizer",
    "learning_rate",
    "step",
)


class Snapshot:
    """A copy of everything that training changes in a model.

    It has nine parts: `"weights"`, with batch statistics; `"masks"`; `"gates"`, their
    temperature included; `"growth"`, what methods that grow connections remember; `"tweaks"`,
    what tweaks of retraining train and anneal; `"seeds"`, the states of random layers;
    `"optimizer"`, its slots and loss scale; `"learning_rate"`, unless it is a schedule; and
    `"step"`, the optimizer's iteration count, which schedules follow.

    Args:
        model: A built model, sparse or not. Without an optimizer the last three parts
            are empty.

    Raises:
        ValueError: If the model is not built.

    Example:

    >>> start = tfl.Snapshot(sparse)
    >>> history = sparse.fit(x, y, verbose=0)
    >>> start.restore(sparse, parts=("weights", "step"))
    """

    def __init__(self, model):
        variables = _variables(model)
        self._values = {part: _to_numpy(variables[part]) for part in PARTS}
        self._paths = unique_paths(variables["weights"])

    @property
    def weights(self):
        """Dict of paths to the weights, masks not applied."""
        return dict(zip(self._paths, self._values["weights"], strict=True))

    @property
    def step(self):
        """Number of training steps made, 0 without an optimizer."""
        return int(self._values["step"][-1]) if self._values["step"] else 0

    def restore(self, model, parts=PARTS):
        """Sets a model to the state of this snapshot.

        Args:
            model: The model the snapshot is of, or another instance of its architecture.
            parts: Tuple of the parts to restore. Defaults to all of them. What a method
                remembers of its growth is forgotten if the snapshot is of a time before it.

        Raises:
            ValueError: If a part is unknown or the model has another architecture or
                optimizer; then nothing is changed.
        """
        for part in parts:
            if part not in PARTS:
                raise ValueError(f"Argument `parts` must be among {PARTS}. Received: {part!r}")
        variables = _variables(model)
        # Methods that grow connections can have begun or ended since then.
        same_growth = _shapes(variables["growth"]) == _shapes(self._values["growth"])
        plain = [part for part in parts if part != "growth" or same_growth]
        for part in plain:
            _check_fits(part, variables[part], self._values[part])
        for part in plain:
            for variable, value in zip(variables[part], self._values[part], strict=True):
                variable.assign(value)
        if "growth" in parts and not same_growth:
            for layer in _masked_layers(model):
                if layer.growth is not None:
                    layer.growth.reset([ops.convert_to_numpy(mask) for mask in layer.masks])

    def to_arrays(self, prefix=""):
        """Returns the parts as a dict of names to arrays, fit for one file.

        Args:
            prefix: String put before every name. Defaults to `""`.
        """
        return {
            f"{prefix}{part}/{i}": value
            for part in PARTS
            for i, value in enumerate(self._values[part])
        }

    @classmethod
    def from_arrays(cls, model, arrays, prefix=""):
        """Returns the snapshot that `to_arrays` took apart.

        Args:
            model: A model of the same architecture.
            arrays: Dict of names to arrays; others than those of `prefix` are ignored.
            prefix: String that stands before every name. Defaults to `""`.
        """
        snapshot = cls.__new__(cls)
        snapshot._paths = unique_paths(_variables(model)["weights"])
        snapshot._values = {}
        for part in PARTS:
            start = f"{prefix}{part}/"
            names = [name for name in arrays if name.startswith(start)]
            names.sort(key=lambda name, start=start: int(name.removeprefix(start)))
            snapshot._values[part] = [arrays[name] for name in names]
        if len(snapshot._values["weights"]) != len(snapshot._paths):
            _check_fits("weights", _variables(model)["weights"], snapshot._values["weights"])
        return snapshot

    def save(self, path):
        """Writes the snapshot into a file, atomically.

        Args:
            path: The `.npz` file.

        Raises:
            OSError: If the file cannot be written.
        """
        files.save_arrays(path, "snapshot", self.to_arrays(), {})

    @classmethod
    def load(cls, path, model):
        """Reads a snapshot from a file.

        Args:
            path: The `.npz` file.
            model: A model of the same architecture.

        Raises:
            OSError: If there is no such file.
            ValueError: If the file is damaged, or of something or somebody else.
        """
        return cls.from_arrays(model, files.load_arrays(path, "snapshot")[0])


def training_step(optimizer):
    """Returns the number of training steps an optimizer has made.

    Batches count, also those that only accumulate gradients; batches a loss scale skipped
    do not. It is the step that learning-rate schedules see.

    Args:
        optimizer: A Keras optimizer.
    """
    return int(ops.convert_to_numpy(step_variables(optimizer)[-1]))


def start_averages(model):
    """Lets the moving averages of an optimizer with `use_ema` start at the weights.

    Averages start from zero only at iteration 0, so after rewinding to a later step they
    have to be set.

    Args:
        model: A compiled model.
    """
    trained = model.trainable_variables
    for variable, found in zip(trained, slots(model.optimizer, trained), strict=True):
        if "average" in found:
            # By value: on JAX the two would share a buffer, which a step cannot donate twice.
            found["average"].assign(ops.convert_to_numpy(variable).copy())


def step_variables(optimizer):
    """Returns the iteration counters, the one of the innermost optimizer last.

    Args:
        optimizer: A built Keras optimizer.
    """
    return [variable for variable in optimizer.variables if variable.name == "iteration"]


def _variables(model):
    """Returns the variables of each part of the training state."""
    if not model.built:
        raise ValueError(
            "Argument `model` must be built, so that its weights exist. "
            f"Received: {model.name!r}, which is not built"
        )
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)
    masked = _masked_layers(model)
    masks = [mask for layer in masked for mask in layer.masks]
    states = [layer.growth for layer in masked if layer.growth is not None]
    known = {id(variable) for variable in model.weights}
    metrics = {id(variable) for variable in model.metrics_variables}
    steps = [] if optimizer is None else step_variables(optimizer)
    rates = [v for v in optimizer.variables if v.name == "learning_rate"] if optimizer else []
    growth = [v for state in states for v in state.variables]
    tweaks = [tweak for layer in masked for tweak in layer.tweaks]
    gates = [v for layer in masked if isinstance(layer, Gated) for v in layer.gate_variables]
    tweaked = [v for tweak in tweaks for v in tweak.variables]
    counted = {id(v) for v in [*masks, *gates, *growth, *tweaked, *rates, *steps]}
    return {
        "weights": [v for v in model.weights if id(v) not in counted],
        "masks": masks,
        "gates": gates,
        "growth": [v for state in states for v in state.lasting],
        "tweaks": [v for tweak in tweaks for v in tweak.state],
        "seeds": [v for v in model.variables if id(v) not in known | metrics | counted],
        "optimizer": [v for v in optimizer.variables if id(v) not in counted] if optimizer else [],
        "learning_rate": rates,
        "step": steps,
    }


def _masked_layers(model):
    found = [layer for layer in all_layers(model) if isinstance(layer, Masked)]
    # A teacher can be sparse too, and stays as it is.
    inside = {id(sub) for layer in found for tweak in layer.tweaks for sub in all_layers(tweak)}
    return [layer for layer in found if id(layer) not in inside]


def _shapes(arrays):
    return [tuple(array.shape) for array in arrays]


def _to_numpy(variables):
    # A copy: on the CPU a NumPy array can share memory with the variable.
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]


def _check_fits(part, variables, values):
    expected, received = _shapes(variables), _shapes(values)
    if expected != received:
        raise ValueError(
            f"Argument `model` must have the {part} of the snapshot: {len(received)} arrays of "
            f"shapes {received[:8]}. Received: {len(expected)} of shapes {expected[:8]}"
        )
