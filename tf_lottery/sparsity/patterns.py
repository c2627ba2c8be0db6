"""Patterns: which groups of weights are kept or pruned together.

A pattern sees a kernel as a matrix (inputs, outputs): the last axis is the output units, and
all axes before it, flattened, are the inputs that a unit sums over. The kernels of Keras'
dense, convolutional and recurrent layers have this order; other kernels have to be reshaped
first, as `SparseModel.to_matrices` does.
"""

import dataclasses
import math
import re

import keras
import numpy as np

from tf_lottery.checks import natural_number, positive_integer
from tf_lottery.sparsity.serializable import Serializable


class Pattern(Serializable):
    """Base class of patterns. By default every weight is a group of its own.

    A pattern pools the scores of a kernel into scores of its groups. The groups are ranked,
    and the mask of the groups is expanded to the kernel's shape. With `fill` a pattern can
    also limit which groups are kept together. Scores and masks are matrices (inputs, outputs).

    To make a pattern, derive a frozen dataclass, override the methods that differ, and register
    it with Keras, else a saved model that has it cannot be loaded. All groups of a kernel must
    have the same size. The matrix of a convolution has height x width x channels inputs; let
    `divides` return `False` for matrices that the pattern does not suit.

    Attributes:
        structured: Boolean, whether the position of a weight in the matrix matters.
        round_to: Integer > 0. The number of groups that every array keeps is a multiple of it.
        floor: Integer >= 0, the number of groups that every array keeps at least.

    Example:

    >>> @keras.saving.register_keras_serializable("mine")
    ... @dataclasses.dataclass(frozen=True)
    ... class Input(Pattern):
    ...     def pool(self, scores):
    ...         return scores.mean(axis=1)
    ...     def expand(self, group_mask, shape):
    ...         return np.repeat(group_mask[:, None], shape[1], axis=1)
    >>> scores = np.array([[4.0, 1.0], [2.0, 2.0]])
    >>> tfl.sparsity.top_k_masks(scores, sparsity=0.5, pattern=Input())
    array([[ True,  True],
           [False, False]])
    """

    structured = True
    round_to = 1
    floor = 0

    def divides(self, shape: tuple[int, ...]) -> bool:
        """Returns whether a kernel of `shape` consists of whole groups."""
        del shape
        return True

    def pool(self, scores: np.ndarray) -> np.ndarray:
        """Returns the scores of the groups, as an array of any shape.

        Groups with low scores are pruned first. It is also called with masks, to find which groups
        are kept: it must return 0 for a group without kept weights and more than 0 for any other,
        as a mean or a sum does.
        """
        return scores

    def expand(self, group_mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Returns a new mask of `shape` that keeps the groups in `group_mask`."""
        return group_mask.reshape(shape)

    def fill(
        self, scores: np.ndarray, eligible: np.ndarray, kept: np.ndarray | None = None
    ) -> np.ndarray | None:
        """Returns which eligible groups the pattern allows to keep beside those kept already.

        Other groups are kept only if the sparsity asks for more weights than it allows. Override
        `holds` too.

        Args:
            scores: Array of pooled scores. If the pattern does not allow all groups, those
                with the highest scores are chosen, and of equal ones the lower flat index.
            eligible: Boolean array of the same shape.
            kept: Boolean array of the same shape, the groups that are kept already; they
                are not eligible. Defaults to `None`: none.

        Returns:
            Boolean array, or `None` if the pattern allows any groups.
        """
        del scores, eligible, kept
        return None

    def holds(self, mask: np.ndarray) -> bool:
        """Returns whether `mask`, a boolean array, follows the pattern.

        By default, whether it consists of whole groups.
        """
        return np.array_equal(self.expand(self.pool(mask) > 0, mask.shape), mask)


@keras.saving.register_keras_serializable("tf_lottery")
@dataclasses.dataclass(frozen=True)
class Unstructured(Pattern):
    """Every weight is kept or pruned on its own. Its name is `"unstructured"`.

    Example:

    >>> Unstructured().pool(np.array([[3.0, 1.0]]))
    array([[3., 1.]])
    """

    structured = False

    def __str__(self):
        return "unstructured"


@keras.saving.register_keras_serializable("tf_lottery")
@dataclasses.dataclass(frozen=True)
class NM(Pattern):
    """At most `n` of each `m` consecutive inputs of a unit are kept.

    The fine-grained structure of "Learning N:M Fine-grained Structured Sparse Neural
    Networks From Scratch" (arXiv:2102.04010), which sparse tensor cores support as 2:4.
    Its name is `"2:4"` for `NM(2, 4)`. The `n` highest scores of every group are pruned
    last, so below a sparsity of `1 - n / m` only some groups follow the pattern.

    Args:
        n: Integer > 0, below `m`.
        m: Integer, the size of a group. It must divide the number of inputs.

    Raises:
        ValueError: If `n` or `m` is outside its range.

    Example:

    >>> scores = np.array([[4.0], [1.0], [2.0], [3.0]])
    >>> NM(2, 4).fill(scores, eligible=scores > 0).reshape(-1)
    array([ True, False, False,  True])
    """

    n: int
    m: int

    def __post_init__(self):
        positive_integer("n", self.n)
        if positive_integer("m", self.m) <= self.n:
            raise ValueError(f"Argument `n` must be below `m`. Received: n={self.n}, m={self.m}")

    def __str__(self):
        return f"{self.n}:{self.m}"

    def divides(self, shape: tuple[int, ...]) -> bool:
        """Returns whether `m` divides the number of inputs."""
        return math.prod(shape[:-1]) % self.m == 0

    def fill(
        self, scores: np.ndarray, eligible: np.ndarray, kept: np.ndarray | None = None
    ) -> np.ndarray:
        """Returns the highest eligible scores of each group: `n`, minus those kept already."""
        groups, candidates = self._groups(scores), self._groups(eligible)
        places = self.n if kept is None else self.n - self._groups(kept).sum(axis=1)
        result = np.empty(groups.shape, bool)
        # Groups are small: comparing all pairs is faster than sorting millions of groups.
        for i in range(self.m):
            rank = np.zeros(groups[:, i].shape, np.min_scalar_type(self.m))
            for j in range(self.m):
                if j != i:
                    wins = np.greater_equal if j < i else np.greater
                    rank += wins(groups[:, j], groups[:, i]) & candidates[:, j]
            result[:, i] = candidates[:, i] & (rank < places)
        return result.reshape(scores.shape)

    def holds(self, mask: np.ndarray) -> bool:
        """Returns whether no group of `mask` keeps more than `n`."""
        return bool(np.all(self._groups(mask).sum(axis=1) <= self.n))

    def _groups(self, array):
        return array.reshape(-1, self.m, array.shape[-1])


@keras.saving.register_keras_serializable("tf_lottery")
@dataclasses.dataclass(frozen=True)
class Block(Pattern):
    """Blocks of weights are kept or pruned together. `"4x1"` names `Block(4, 1)`.

    The score of a block is the mean of its weights' scores; for magnitudes this is its L1
    norm, up to a constant factor.

    Args:
        rows: Integer > 0, the consecutive inputs in a block. It must divide their number.
        columns: Integer > 0, the consecutive units in a block. It must divide their number.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> Block(2, 1).pool(np.array([[4.0, 1.0], [2.0, 3.0]]))
    array([[3., 2.]])
    """

    rows: int
    columns: int

    def __post_init__(self):
        positive_integer("rows", self.rows)
        positive_integer("columns", self.columns)

    def __str__(self):
        return f"{self.rows}x{self.columns}"

    def divides(self, shape: tuple[int, ...]) -> bool:
        """Returns whether the blocks tile the matrix."""
        return math.prod(shape[:-1]) % self.rows == 0 and shape[-1] % self.columns == 0

    def pool(self, scores: np.ndarray) -> np.ndarray:
        """Returns the means of the blocks."""
        columns = scores.shape[-1] // self.columns
        return scores.reshape(-1, self.rows, columns, self.columns).mean(axis=(1, 3))

    def expand(self, group_mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Returns a new mask of `shape` that keeps the blocks in `group_mask`."""
        return group_mask.repeat(self.rows, axis=0).repeat(self.columns, axis=1).reshape(shape)


@keras.saving.register_keras_serializable("tf_lottery")
@dataclasses.dataclass(frozen=True)
class Channel(Pattern):
    """All inputs of an output unit are kept or pruned together. Its name is `"channel"`.

    In a model that `tfl.sparsify` makes, channels of several layers that can only be removed
    together, as those of a residual stream, are one channel of a group: see
    `tf_lottery.sparsity.groups.Group`. All weights that make it are kept or pruned together: the
    columns of all kernels of the group, biases, and the scale, shift and mean of normalization.

    The score of a channel is the mean of the scores of its kernels' weights.

    Args:
        round_to: Integer > 0. The number of channels that are kept is a multiple of it, or all:
            many runtimes compute in blocks of 8 or 16 channels. `"channel:8"` names
            `Channel(8)`. Defaults to `1`.
        floor: Integer >= 0, the number of channels that are always kept. Defaults to `0`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> Channel().pool(np.array([[4.0, 1.0], [2.0, 3.0]]))
    array([3., 2.])
    >>> scores = np.arange(32.0).reshape(1, 32)
    >>> int(tfl.sparsity.top_k_masks(scores, sparsity=0.6, pattern=Channel(round_to=8)).sum())
    16
    """

    round_to: int = 1
    floor: int = 0

    def __post_init__(self):
        positive_integer("round_to", self.round_to)
        natural_number("floor", self.floor)

    def __str__(self):
        return "channel" if self.round_to == 1 else f"channel:{self.round_to}"

    def pool(self, scores: np.ndarray) -> np.ndarray:
        """Returns the means of the channels."""
        return scores.reshape(-1, scores.shape[-1]).mean(axis=0)

    def expand(self, group_mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Returns a new mask of `shape` that keeps the channels in `group_mask`."""
        return np.broadcast_to(group_mask, shape).copy()


def get(identifier):
    """Returns the pattern that `identifier` names.

    Args:
        identifier: A `Pattern`, its serialized form, or its name: `"unstructured"`,
            `"channel"`, `"channel:8"` for `Channel(round_to=8)`, `"2:4"` for `NM(2, 4)`, `"4x1"`
            for `Block(4, 1)`, or other numbers.

    Returns:
        The `Pattern`.

    Raises:
        ValueError: If `identifier` is none of these.
    """
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, Pattern):
        return identifier
    name = identifier if isinstance(identifier, str) else ""
    if name in ("unstructured", "channel"):
        return Unstructured() if name == "unstructured" else Channel()
    if rounded := re.fullmatch(r"channel:(\d+)", name):
        return Channel(int(rounded[1]))
    if numbers := re.fullmatch(r"(\d+)([:x])(\d+)", name):
        kind = NM if numbers[2] == ":" else Block
        return kind(int(numbers[1]), int(numbers[3]))
    raise ValueError(
        "Argument `pattern` must be a `Pattern`, 'unstructured', 'channel', or numbers as in "
        f"'2:4' or '4x1'. Received: pattern={identifier!r}"
    )


def check_divides(pattern, shape, name):
    """Raises a `ValueError` if `shape` does not consist of whole groups of `pattern`.

    Args:
        pattern: A `Pattern`.
        shape: Tuple of integers.
        name: String, the array's name for the message.
    """
    if not pattern.divides(shape):
        raise ValueError(
            f"Argument `{name}` must be an array (inputs, outputs) that the pattern {pattern} "
            f"divides. Received: shape={tuple(shape)}"
        )
