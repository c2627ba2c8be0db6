"""A lottery ticket: masks, and the weights from which training starts."""

import dataclasses
import math
import os
import warnings
from typing import Self

import keras
import numpy as np

from tf_lottery import files, hosts
from tf_lottery._version import __version__
from tf_lottery.model import SparseModel, check_sparse_model
from tf_lottery.model.paths import match_paths, mismatch
from tf_lottery.printable import short_repr
from tf_lottery.sparsity import masks as mask_ops


@dataclasses.dataclass(frozen=True)
class TicketMatch:
    """The result of `Ticket.apply`.

    Args:
        matched: List of the paths of the model's weights that were set.
        unmatched: Dict from paths to the reason why nothing was set: weights of the ticket that
            the model does not have, and kernels of the model that the ticket does not have.
    """

    matched: list
    unmatched: dict


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Ticket:
    """The masks of a sparse network, and the weights from which its training starts.

    Args:
        masks: Dict of kernel paths to boolean arrays, True meaning kept.
        weights: Dict of paths to all weights of the model, including biases and batch
            statistics. A search that rewinds stores them without masks applied, since control
            experiments may need the values of pruned weights.
        level: Integer, how many times the network was pruned. Defaults to `0`.
        provenance: Dict that describes the origin of the ticket, with values that fit into JSON.
            Defaults to an empty dict.

    Example:

    >>> ticket = tfl.Ticket.from_model(sparse)
    >>> ticket.save("ticket.npz")
    >>> tfl.Ticket.load("ticket.npz").apply(other_sparse).unmatched
    {}
    """

    masks: dict
    weights: dict
    level: int = 0
    provenance: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if not self.masks:
            raise ValueError("Argument `masks` must hold at least one mask. Received: {}")
        for path, mask in self.masks.items():
            if not isinstance(path, str) or getattr(mask, "dtype", None) != np.dtype(bool):
                raise ValueError(
                    "Argument `masks` must be a dict of kernel paths to boolean arrays. "
                    f"Received: {path!r}: {type(mask).__name__} of "
                    f"dtype {getattr(mask, 'dtype', None)}"
                )
            if path in self.weights and self.weights[path].shape != mask.shape:
                raise ValueError(
                    f"Argument `masks[{path!r}]` must have the shape of its weights, "
                    f"{self.weights[path].shape}. Received: {mask.shape}"
                )

    def __repr__(self):
        shown = {"density": round(self.density, 4), "kernels": len(self.masks), "level": self.level}
        return short_repr("Ticket", shown)

    @classmethod
    def from_model(
        cls,
        model: SparseModel,
        weights: dict[str, np.ndarray] | None = None,
        level: int = 0,
        provenance: dict | None = None,
    ) -> Self:
        """Makes a ticket from a model's masks.

        Args:
            model: A `SparseModel`.
            weights: Dict of paths to weights, for example `Snapshot.weights` of a rewind point.
                Defaults to `None`: the current weights of the model.
            level: Integer, how many times the model was pruned. Defaults to `0`.
            provenance: Dict that fits into JSON. Versions, the model's name and its pattern are
                added. Defaults to `None`.

        Returns:
            A `Ticket`.

        Raises:
            ValueError: If `model` is not a `SparseModel`, or `weights` is incomplete.
        """
        inner = check_sparse_model(model).model
        variables = model.named_weights
        if weights is None:
            weights = {name: hosts.to_numpy(v).copy() for name, v in variables.items()}
        origin = {
            "model": inner.name,
            "pattern": str(model.pattern),
            "tf_lottery": __version__,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
        }
        if not set(variables) <= set(weights):
            raise ValueError(
                "Argument `weights` must have all weights of the model. "
                f"Received: none for {sorted(set(variables) - set(weights))}"
            )
        weights = {name: np.asarray(weights[name]) for name in variables}
        return cls(model.get_masks(), weights, level, {**origin, **(provenance or {})})

    @property
    def density(self) -> float:
        """The fraction of weights that the masks keep."""
        return mask_ops.density(self.masks)

    def apply(self, model: SparseModel, weights: bool = True) -> TicketMatch:
        """Sets the masks and weights of a model.

        Weights are matched by path and shape. Automatic numbers in layer names can differ
        (`dense_3` and `dense`) if the model was built twice, and the name of an enclosing model
        can differ if it was loaded. Then layers with the same name are matched by their order.
        The optimizer and the masks of other kernels do not change.

        Args:
            model: A `SparseModel` with the ticket's architecture, or with a part of it, for
                example with another output layer.
            weights: Whether to set the weights too. `False` keeps the model's own weights, as for
                the control experiment with random reinitialization. Defaults to `True`.

        Returns:
            A `TicketMatch` that lists the matched and unmatched weights. A warning lists the
            unmatched ones, if any.

        Raises:
            ValueError: If `model` is not a `SparseModel` or no mask fits. Nothing is changed
                then.
        """
        targets = check_sparse_model(model).named_weights
        kernels = model.kernels
        shapes = {path: tuple(variable.shape) for path, variable in targets.items()}
        sources = {path: weight.shape for path, weight in self.weights.items()}
        pairs = match_paths(sources, shapes)
        masks = {pairs[path]: m for path, m in self.masks.items() if pairs.get(path) in kernels}
        if not masks:
            raise ValueError(
                f"Argument `model` must share a kernel with the ticket, {sorted(self.masks)}. "
                f"Received: {model.name!r} with {sorted(kernels)}"
            )
        unmatched = {
            path: mismatch(path, sources, shapes, pairs.values()) or "not in the model"
            for path in sources
            if path not in pairs
        }
        missing = {
            path: mismatch(path, shapes, sources, pairs) or "not in the ticket"
            for path in kernels
            if path not in masks
        }
        missing.update(
            {
                path: "has a mask in the ticket, but is not pruned in the model"
                for path in self.masks
                if path in pairs and pairs[path] not in kernels
            }
        )
        # First what can be refused.
        model.set_masks(masks)
        if weights:
            for source, target in pairs.items():
                hosts.assign(targets[target], self.weights[source])
            model.apply_masks()
        match = TicketMatch(
            list(pairs.values()) if weights else list(masks), {**missing, **unmatched}
        )
        names = {*kernels, *self.masks, *(match.unmatched if weights else ())}
        if reasons := {path: why for path, why in match.unmatched.items() if path in names}:
            warnings.warn(
                f"The ticket fitted in part: {len(masks)} of the {len(kernels)} kernels of "
                f"{model.name!r} got their masks. These weights did not change: {reasons}",
                stacklevel=2,
            )
        return match

    def overlap(self, other: Self) -> float:
        """Measures to what extent two tickets keep the same weights.

        Args:
            other: A `Ticket` of the same architecture.

        Returns:
            Float in [0, 1], the intersection over union: the number of weights that both keep
            divided by the number that at least one keeps, over all kernels in both tickets.

        Raises:
            ValueError: If the tickets share no kernel.
        """
        shapes = {path: mask.shape for path, mask in self.masks.items()}
        pairs = match_paths(shapes, {path: mask.shape for path, mask in other.masks.items()})
        if not pairs:
            raise ValueError(
                f"Argument `other` must share a kernel with the ticket, {sorted(shapes)}. "
                f"Received: {sorted(other.masks)}"
            )
        both = sum(np.count_nonzero(self.masks[a] & other.masks[b]) for a, b in pairs.items())
        either = sum(np.count_nonzero(self.masks[a] | other.masks[b]) for a, b in pairs.items())
        return float(both / either) if either else 1.0

    def save(self, path: str | os.PathLike) -> None:
        """Writes the ticket into one file atomically, with masks as bits.

        Args:
            path: The `.npz` file. An existing file is replaced, or kept if writing fails.

        Raises:
            ValueError: If a weight is not finite, which `load` refuses too.
            OSError: If the file cannot be written.
        """
        if wrong := [name for name, weight in self.weights.items() if not _is_finite(weight)]:
            raise ValueError(
                "Only tickets with finite weights can be saved. Received: weights that are not "
                f"finite numbers, {wrong[:8]}"
            )
        masks, weights = list(self.masks), list(self.weights)
        arrays = {f"mask/{i}": np.packbits(self.masks[name]) for i, name in enumerate(masks)}
        arrays.update({f"weight/{i}": self.weights[name] for i, name in enumerate(weights)})
        metadata = {
            "level": self.level,
            "provenance": self.provenance,
            "masks": masks,
            "shapes": [self.masks[name].shape for name in masks],
            "weights": weights,
        }
        files.save_arrays(path, "ticket", arrays, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Reads a ticket from a file; no code in the file is run.

        Args:
            path: The `.npz` file.

        Returns:
            A `Ticket`.

        Raises:
            OSError: If there is no such file.
            ValueError: If the file is damaged or holds something else.
        """
        arrays, metadata = files.load_arrays(path, "ticket")
        with files.reading(path, "ticket"):
            return cls(*_checked_content(arrays, metadata))


def _checked_content(arrays, metadata):
    """Returns the arguments of a `Ticket` from what a file holds, or raises an error."""
    fields = {"masks": list, "shapes": list, "weights": list, "level": int, "provenance": dict}
    files.check_fields(metadata, fields)
    names = {"mask": metadata["masks"], "weight": metadata["weights"]}
    expected = {f"{kind}/{i}" for kind, found in names.items() for i in range(len(found))}
    for found in names.values():
        if not all(isinstance(name, str) for name in found) or len(set(found)) < len(found):
            raise ValueError(f"names of weights that are no strings or not unique: {found[:8]}")
    if metadata["level"] < 0 or set(arrays) != expected:
        raise ValueError(f"level {metadata['level']}, arrays {sorted(arrays)[:8]}")
    masks = {
        name: _unpacked(name, arrays[f"mask/{i}"], shape)
        for i, (name, shape) in enumerate(zip(names["mask"], metadata["shapes"], strict=True))
    }
    weights = {name: arrays[f"weight/{i}"] for i, name in enumerate(names["weight"])}
    for name, weight in weights.items():
        if not _is_finite(weight):
            raise ValueError(f"weight {name!r} of dtype {weight.dtype} is not finite")
    return masks, weights, metadata["level"], metadata["provenance"]


def _is_finite(weight):
    # NumPy has no letter for the types of ml_dtypes.
    is_number = weight.dtype.kind in "biuf" or weight.dtype.name.startswith(("bfloat", "float"))
    return is_number and np.isfinite(weight).all()


def _unpacked(name, bits, shape):
    """Returns a mask, after the number of bits was compared with its shape."""
    is_shape = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    if not is_shape or bits.dtype != np.uint8 or bits.shape != (-(-math.prod(shape) // 8),):
        raise ValueError(f"mask {name!r} of shape {shape} has {bits.size} bytes of {bits.dtype}")
    return np.unpackbits(bits, count=math.prod(shape)).astype(bool).reshape(shape)
