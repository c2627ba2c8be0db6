"""`tfl.Snapshot`: saves the training state of a model and restores it."""

import copy
import os
from typing import Self

import keras
import numpy as np

from tf_lottery import files, hosts
from tf_lottery.layers import GrowthMemory
from tf_lottery.layers.masked import masked_layers
from tf_lottery.layers.weights import unique_paths
from tf_lottery.model import SparseModel
from tf_lottery.optimizers import build_optimizer, rate_variables, step_variables

# Custom parts can add further kinds.
KINDS = (
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

    It has several kinds of state: `"weights"`, with batch statistics; `"seeds"`, the states of
    random layers; `"optimizer"`, its slots and loss scale; `"learning_rate"`, unless it is a
    schedule; `"step"`, the optimizer's iteration count, which schedules follow. The parts of a
    sparse model add the kind that each part names: `"masks"`; `"gates"`, with their
    temperature; `"growth"`, the state of methods that grow connections; `"tweaks"`, the
    variables of retraining tweaks.

    Args:
        model: A built model, sparse or not. Without an optimizer, the kinds `"optimizer"`,
            `"learning_rate"` and `"step"` are empty.
        optimizer: The Keras optimizer to include. Defaults to `None`: that of the model. Another
            one must be built with all variables that it trains.

    Raises:
        ValueError: If the model is not built, or an optimizer that is not that of the model.

    Example:

    >>> start = tfl.Snapshot(sparse)
    >>> history = sparse.fit(x, y, verbose=0)
    >>> start.restore(sparse, kinds=("weights", "step"))
    """

    def __init__(
        self, model: keras.Model, optimizer: keras.optimizers.Optimizer | None = None
    ) -> None:
        state = _State(model, optimizer)
        self._values = {kind: _to_numpy(variables) for kind, variables in state.by_kind.items()}
        self._names = state.names

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """Dict of names to the weights, without masks applied."""
        return dict(zip(self._names, self._values["weights"], strict=True))

    @property
    def step(self) -> int:
        """Number of training steps made, 0 without an optimizer."""
        return int(self._values["step"][-1]) if self._values["step"] else 0

    @property
    def learning_rates(self) -> list[float]:
        """List of the learning rates, empty if they are schedules."""
        return [float(rate) for rate in self._values["learning_rate"]]

    def with_learning_rates(self, rates: list[float]) -> Self:
        """Returns a snapshot that differs in the learning rates.

        Args:
            rates: List of floats, as many as the optimizer has learning rates.
        """
        changed = copy.copy(self)
        changed._values = {**self._values, "learning_rate": [np.float32(rate) for rate in rates]}
        return changed

    def restore(
        self,
        model: keras.Model,
        kinds: tuple[str, ...] | None = None,
        optimizer: keras.optimizers.Optimizer | None = None,
    ) -> None:
        """Sets a model to the state of this snapshot.

        Args:
            model: The model that was saved, or another model of the same architecture.
            kinds: Tuple of the kinds of state to restore. Defaults to `None`: all of them. If
                the snapshot was taken before a method began to grow connections, the state of
                that method is reset.
            optimizer: The Keras optimizer to restore. Defaults to `None`: that of the model.

        Raises:
            ValueError: If a kind is unknown or the model has another architecture or
                optimizer. Nothing is changed then.
        """
        state = _State(model, optimizer)
        known = list(dict.fromkeys([*KINDS, *state.by_kind, *self._values]))
        for kind in kinds or ():
            if kind not in known:
                raise ValueError(f"Argument `kinds` must be among {known}. Received: {kind!r}")
        chosen = known if kinds is None else kinds
        values = {kind: list(self._values.get(kind, [])) for kind in chosen}
        for kind in chosen:
            if kind not in state.may_differ:
                _check_fits(kind, state.by_kind.get(kind, []), values[kind])
        for kind in state.of_model:
            for variable, value in zip(state.by_kind[kind], values.get(kind, ()), strict=False):
                hosts.assign(variable, value)
        for part, kept in state.parts:
            if part.kind in values:
                _restore_part(part, values[part.kind], kept())

    def to_arrays(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Returns the state as a dict of names to arrays, fit for one file.

        Args:
            prefix: String put before every name. Defaults to `""`.
        """
        return {
            f"{prefix}{kind}/{i}": value
            for kind, values in self._values.items()
            for i, value in enumerate(values)
        }

    @classmethod
    def from_arrays(
        cls, model: keras.Model, arrays: dict[str, np.ndarray], prefix: str = ""
    ) -> Self:
        """Returns the snapshot whose arrays `to_arrays` returned.

        Args:
            model: A model of the same architecture.
            arrays: Dict of names to arrays; names without the prefix are ignored.
            prefix: String with which the names begin. Defaults to `""`.
        """
        snapshot, state = cls.__new__(cls), _State(model)
        snapshot._names = state.names
        snapshot._values = {kind: [] for kind in state.by_kind}
        found = {}
        for name in arrays:
            if name.startswith(prefix):
                kind, _, number = name.removeprefix(prefix).partition("/")
                found.setdefault(kind, {})[int(number)] = arrays[name]
        for kind, values in found.items():
            if sorted(values) != list(range(len(values))):
                raise ValueError(f"arrays of {kind} are missing: {sorted(values)}")
            snapshot._values[kind] = [values[i] for i in sorted(values)]
        if len(snapshot._values["weights"]) != len(snapshot._names):
            _check_fits("weights", state.by_kind["weights"], snapshot._values["weights"])
        return snapshot

    def save(self, path: str | os.PathLike) -> None:
        """Writes the snapshot into a file, atomically.

        Args:
            path: The `.npz` file.

        Raises:
            OSError: If the file cannot be written.
        """
        files.save_arrays(path, "snapshot", self.to_arrays(), {})

    @classmethod
    def load(cls, path: str | os.PathLike, model: keras.Model) -> Self:
        """Reads a snapshot from a file.

        Args:
            path: The `.npz` file.
            model: A model of the same architecture.

        Raises:
            OSError: If there is no such file.
            ValueError: If the file is damaged or is not a snapshot.
        """
        arrays, _ = files.load_arrays(path, "snapshot")
        with files.reading(path, "snapshot"):
            return cls.from_arrays(model, arrays)


class _State:
    """The variables of a model that training changes.

    Attributes:
        by_kind: Dict of kinds of state to lists of variables.
        of_model: List of the kinds that do not belong to parts.
        parts: List of pairs of a part and a function that returns the masks of its wrapper.
        may_differ: Set of the kinds for which a snapshot may have other shapes than the model.
        names: List of the names of the weights.
    """

    def __init__(self, model, optimizer=None):
        if not model.built:
            raise ValueError(
                "Argument `model` must be built, so that its weights exist. "
                f"Received: {model.name!r}, which is not built"
            )
        wrappers = masked_layers(model)
        self.parts = [(part, wrapper.get_masks) for wrapper in wrappers for part in wrapper.parts]
        of_parts = {id(variable) for part, _ in self.parts for variable in part.variables}
        weights = [weight for weight in model.weights if id(weight) not in of_parts]
        self.names = _names(model, weights)
        known = {id(weight) for weight in model.weights} | of_parts
        known |= {id(variable) for variable in model.metrics_variables}
        self.by_kind = {
            "weights": weights,
            "seeds": [v for v in model.variables if id(v) not in known],
            **_optimizer_state(model, optimizer),
        }
        self.of_model = list(self.by_kind)
        for part, _ in self.parts:
            self.by_kind.setdefault(part.kind, []).extend(part.state())
        self.may_differ = {part.kind for part, _ in self.parts if part.may_begin}
        self.may_differ.add(GrowthMemory.kind)


def _names(model, weights):
    """Returns the names of the weights: frozen ones of a `SparseModel`, otherwise paths."""
    frozen = {}
    if isinstance(model, SparseModel):
        frozen = {id(weight): name for name, weight in model.named_weights.items()}
    paths = unique_paths(weights)
    return [frozen.get(id(v), path) for v, path in zip(weights, paths, strict=True)]


def _optimizer_state(model, optimizer):
    """Returns the variables of an optimizer by their kinds of state."""
    if optimizer is None:
        optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return {"optimizer": [], "learning_rate": [], "step": []}
    build_optimizer(optimizer, model)
    steps = step_variables(optimizer)
    rates = rate_variables(optimizer)
    # Dense gradients for growth are among the optimizer's variables, but are not slots.
    others = {id(v) for v in [*steps, *rates, *model.variables]}
    slots = [v for v in optimizer.variables if id(v) not in others]
    return {"optimizer": slots, "learning_rate": rates, "step": steps}


def _restore_part(part, values, kept):
    """Sets the state of a part to the first of the values, and removes these from the list."""
    variables = part.state()
    share = values[: len(variables)]
    fits = _shapes(share) == _shapes(variables)
    part.restore(share if fits else None, kept)
    del values[: len(variables)]


def _shapes(arrays):
    return [tuple(array.shape) for array in arrays]


def _to_numpy(variables):
    # A copy, since on the CPU a NumPy array can share memory with the variable.
    return [hosts.to_numpy(variable).copy() for variable in variables]


def _check_fits(part, variables, values):
    expected, received = _shapes(variables), _shapes(values)
    if expected != received:
        raise ValueError(
            f"Argument `model` must have the {part} of the snapshot: {len(received)} arrays of "
            f"shapes {received[:8]}. Received: {len(expected)} of shapes {expected[:8]}"
        )
