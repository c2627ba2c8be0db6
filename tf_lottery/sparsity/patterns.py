"""Patterns: which groups of weights are kept or pruned together.

A pattern sees a kernel as a matrix (inputs, outputs): the last axis are the output units,
all axes before it, flattened, are the inputs that a unit sums over. The kernels of Keras'
dense, convolutional and recurrent layers have this order; others have to be reshaped
first, as `SparseModel.to_matrices` does.
"""

import dataclasses
import math
import re

import keras
import numpy as np

from tf_lottery.checks import positive_integer
from tf_lottery.sparsity.serializable import Serializable


class Pattern(Serializable):
    """Base of the patterns, which leaves every weight free.

    A pattern pools the scores of a kernel into the scores of its groups; the groups are
    ranked; and the mask of the groups is expanded to the kernel's shape. A pattern can
    also limit how many groups are kept where. To make one, derive a frozen dataclass,
    override the methods that differ and register it with Keras.

    Attributes:
        structured: Boolean, whether the place of a weight in the matrix matters.

    Example:

    >>> @dataclasses.dataclass(frozen=True)
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

    def divides(self, shape):
        """Returns whether a kernel of `shape` consists of whole groups."""
        del shape
        return True

    def pool(self, scores):
        """Returns the scores of the groups, higher meaning kept longer."""
        return scores

    def expand(self, group_mask, shape):
        """Returns a new mask of `shape` that keeps the groups in `group_mask`."""
        return group_mask.reshape(shape)

    def fill(self, scores, eligible, kept=None):
        """Returns which of the eligible groups have a place beside those kept.

        Args:
            scores: Array, pooled. Where places are few, the highest scores get them, and
                the lower flat index among equals.
            eligible: Boolean array of its shape.
            kept: Boolean array of its shape, of groups that hold a place and are not
                eligible. Defaults to `None`: none.

        Returns:
            Boolean array, or `None` if the pattern does not limit the places.
        """
        del scores, eligible, kept
        return None

    def holds(self, mask):
        """Returns whether `mask`, a boolean array, follows the pattern."""
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
    Networks From Scratch" (arXiv:2102.04010), which sparse tensor cores multiply as 2:4.
    Its name is `"2:4"` for `NM(2, 4)`. Below a sparsity of `1 - n / m` the pattern is
    reached part of the way: the `n` highest scores of every group are pruned last.

    Args:
        n: Integer > 0, below `m`.
        m: Integer, the size of a group. It divides the number of inputs.

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

    def divides(self, shape):
        """Returns whether `m` divides the number of inputs."""
        return math.prod(shape[:-1]) % self.m == 0

    def fill(self, scores, eligible, kept=None):
        """Returns the highest eligible scores of each group, `n` less those kept."""
        groups, candidates = self._groups(scores), self._groups(eligible)
        places = self.n if kept is None else self.n - self._groups(kept).sum(axis=1)
        result = np.empty(groups.shape, bool)
        # Groups are small: counting who comes first beats sorting millions of them.
        for i in range(self.m):
            rank = np.zeros(groups[:, i].shape, np.min_scalar_type(self.m))
            for j in range(self.m):
                if j != i:
                    wins = np.greater_equal if j < i else np.greater
                    rank += wins(groups[:, j], groups[:, i]) & candidates[:, j]
            result[:, i] = candidates[:, i] & (rank < places)
        return result.reshape(scores.shape)

    def holds(self, mask):
        """Returns whether no group of `mask` keeps more than `n`."""
        return bool(np.all(self._groups(mask).sum(axis=1) <= self.n))

    def _groups(self, array):
        return array.reshape(-1, self.m, array.shape[-1])


@keras.saving.register_keras_serializable("tf_lottery")
@dataclasses.dataclass(frozen=True)
class Block(Pattern):
    """Blocks of weights are kept or pruned together. `"4x1"` names `Block(4, 1)`.

    The score of a block is the mean of its scores, for magnitudes its L1 norm but for a
    factor.

    Args:
        rows: Integer > 0, how many consecutive inputs. It divides the number of inputs.
        columns: Integer > 0, of how many consecutive units. It divides their number.

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

    def divides(self, shape):
        """Returns whether the blocks tile the matrix."""
        return math.prod(shape[:-1]) % self.rows == 0 and shape[-1] % self.columns == 0

    def pool(self, scores):
        """Returns the means of the blocks."""
        columns = scores.shape[-1] // self.columns
        return scores.reshape(-1, self.rows, columns, self.columns).mean(axis=(1, 3))

    def expand(self, group_mask, shape):
        """Returns a new mask of `shape` that keeps the blocks in `group_mask`."""
        return group_mask.repeat(self.rows, axis=0).repeat(self.columns, axis=1).reshape(shape)


@keras.saving.register_keras_serializable("tf_lottery")
@dataclasses.dataclass(frozen=True)
class Channel(Pattern):
    """All inputs of an output unit are kept or pruned together. Its name is `"channel"`.

    The score of a channel is the mean of its scores. It leaves the unit's bias alone.

    Example:

    >>> Channel().pool(np.array([[4.0, 1.0], [2.0, 3.0]]))
    array([3., 2.])
    """

    def __str__(self):
        return "channel"

    def pool(self, scores):
        """Returns the means of the channels."""
        return scores.reshape(-1, scores.shape[-1]).mean(axis=0)

    def expand(self, group_mask, shape):
        """Returns a new mask of `shape` that keeps the channels in `group_mask`."""
        return np.broadcast_to(group_mask, shape).copy()


def get(identifier):
    """Returns the pattern that `identifier` names.

    Args:
        identifier: A `Pattern`, what Keras serialized it to, or its name: `"unstructured"`,
            `"channel"`, `"2:4"` for `NM(2, 4)`, `"4x1"` for `Block(4, 1)`, or other numbers.

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
