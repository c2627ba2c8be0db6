"""A lottery ticket: which weights are kept and the values they start from."""

import collections
import dataclasses
import re
import warnings

import keras
import numpy as np
from keras import ops

from tf_lottery import files
from tf_lottery._version import __version__
from tf_lottery.model import check_sparse_model
from tf_lottery.printable import short_repr
from tf_lottery.sparsity import masks as mask_ops


@dataclasses.dataclass(frozen=True)
class TicketMatch:
    """What `Ticket.apply` found in a model.

    Args:
        matched: List of the paths of the model's weights that were set.
        unmatched: Dict of paths to the reason why nothing was set, those of the ticket that
            the model lacks and those of kernels that the ticket lacks.
    """

    matched: list
    unmatched: dict


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Ticket:
    """The masks of a sparse network with the weights its training starts from.

    Args:
        masks: Dict of kernel paths to boolean arrays, True meaning kept.
        weights: Dict of paths to all weights of the model, biases and batch statistics
            included. Of a search with rewound weights they are not masked: a control
            experiment may need what the masks hide.
        level: Integer, how many times the network was pruned. Defaults to `0`.
        provenance: Dict of values fit for JSON that say where the ticket comes from.

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
    def from_model(cls, model, weights=None, level=0, provenance=None):
        """Makes a ticket of a model's masks.

        Args:
            model: A `SparseModel`.
            weights: Dict of paths to weights, for example `Snapshot.weights` of the moment to
                rewind to. Defaults to the model's weights as they are.
            level: Integer, how many times the model was pruned. Defaults to `0`.
            provenance: Dict fit for JSON. Versions, the model's name and its pattern are added.

        Returns:
            A `Ticket`.

        Raises:
            ValueError: If `model` is not a `SparseModel` or `weights` lacks some.
        """
        inner = check_sparse_model(model).model
        variables = model.named_weights
        if weights is None:
            weights = {name: ops.convert_to_numpy(v).copy() for name, v in variables.items()}
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
    def density(self):
        """The fraction of weights the masks keep."""
        return mask_ops.density(self.masks)

    def apply(self, model, weights=True):
        """Sets the masks of a model and the weights to start from.

        Weights are matched by path and shape. Should the automatic numbers in layer names
        differ (`dense_3` and `dense`), because the model was built a second time, or the name
        of an enclosing model, because it was loaded, then the order of equally named layers
        counts instead. Optimizer and masks of kernels the
        ticket does not know stay as they are.

        Args:
            model: A `SparseModel` of the ticket's architecture, or one that shares a part
                of it, as with another output layer.
            weights: Whether to set the weights too. `False` keeps the model's own, as the
                control experiment with a random reinitialization needs. Defaults to `True`.

        Returns:
            A `TicketMatch` that lists what fitted and what did not; a warning says so if
            something did not.

        Raises:
            ValueError: If `model` is not a `SparseModel` or no mask fits; then nothing is
                changed.
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
            path: _mismatch(path, sources, shapes, pairs.values()) or "not in the model"
            for path in sources
            if path not in pairs
        }
        missing = {
            path: _mismatch(path, shapes, sources, pairs) or "not in the ticket"
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
        if weights:
            for source, target in pairs.items():
                targets[target].assign(self.weights[source])
        model.set_masks(masks)
        match = TicketMatch(
            list(pairs.values()) if weights else list(masks), {**missing, **unmatched}
        )
        names = {*kernels, *self.masks, *(match.unmatched if weights else ())}
        if reasons := {path: why for path, why in match.unmatched.items() if path in names}:
            warnings.warn(
                f"The ticket fitted in part: {len(masks)} of the {len(kernels)} kernels of "
                f"{model.name!r} got their masks. What did not fit stays as it is: {reasons}",
                stacklevel=2,
            )
        return match

    def overlap(self, other):
        """Measures how far two tickets keep the same weights.

        Args:
            other: A `Ticket` of the same architecture.

        Returns:
            Float in [0, 1]: the number of weights that both keep over the number that at
            least one keeps, over all kernels found in both (intersection over union).

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

    def save(self, path):
        """Writes the ticket into one file, masks as bits, atomically.

        Args:
            path: The `.npz` file. An existing one is replaced, or kept if writing fails.

        Raises:
            OSError: If the file cannot be written.
        """
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
    def load(cls, path):
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
        masks = {}
        for i, (name, shape) in enumerate(zip(metadata["masks"], metadata["shapes"], strict=True)):
            bits = np.unpackbits(arrays[f"mask/{i}"], count=int(np.prod(shape)))
            masks[name] = bits.astype(bool).reshape(shape)
        weights = {name: arrays[f"weight/{i}"] for i, name in enumerate(metadata["weights"])}
        return cls(masks, weights, metadata["level"], metadata["provenance"])


def match_paths(sources, targets):
    """Pairs the weights of two instances of an architecture, by path and shape.

    Should the automatic numbers in the names of layers or the names of enclosing models differ,
    then the order of equally named layers counts; of these ways the one that pairs most is
    taken.

    Args:
        sources: Dict of paths to shapes.
        targets: Dict of paths to shapes.

    Returns:
        Dict of paths of `sources` to paths of `targets`, those without a partner left out.

    Example:

    >>> match_paths({"dense/kernel": (4, 3)}, {"dense_1/kernel": (4, 3)})
    {'dense/kernel': 'dense_1/kernel'}
    """
    candidates = []
    for make_keys in _KEYS:
        by_key = {key: path for path, key in make_keys(targets).items()}
        pairs = {path: by_key.get(key) for path, key in make_keys(sources).items()}
        candidates.append({a: b for a, b in pairs.items() if b and sources[a] == targets[b]})
    return max(candidates, key=len)


def _exact(paths):
    return {path: path for path in paths}


def _unnumbered(paths):
    """Returns keys that do not depend on automatic numbers in names."""
    return _ordered({path: re.sub(r"_\d+(?=/)", "", path) for path in paths})


def _unnumbered_ends(paths):
    """Returns keys that do not depend on enclosing models either.

    Keras drops the name of a sequential model from its paths when it loads one.
    """
    return _ordered(
        {path: re.sub(r"_\d+(?=/)", "", "/".join(path.split("/")[-2:])) for path in paths}
    )


def _ordered(stems):
    counts = collections.Counter()
    keys = {}
    for path, stem in stems.items():
        counts[stem] += 1
        keys[path] = (stem, counts[stem])
    return keys


# From the strictest to the loosest; of those that pair as many the first is taken.
_KEYS = (_exact, _unnumbered, _unnumbered_ends)


def _mismatch(path, paths, others, matched):
    """Returns how the weight of the same name, if there is one, differs, else `None`.

    Args:
        path: String, one of `paths` that has no partner.
        paths: Dict of paths to shapes.
        others: Dict of the paths of the other side to shapes.
        matched: Collection of those of `others` that have a partner.
    """
    for make_keys in _KEYS:
        by_key = {key: other for other, key in make_keys(others).items()}
        other = by_key.get(make_keys(paths)[path])
        if other is not None and other not in matched:
            return f"has shape {paths[path]} here and {others[other]} there, as {other!r}"
    return None
