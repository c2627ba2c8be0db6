"""The data of a compression: inputs and labels, checked against the model."""

import dataclasses
from typing import Any

import keras
import numpy as np

from tf_lottery.data_sets import gather, raw_batches
from tf_lottery.export.inputs import Inputs, make_inputs


@dataclasses.dataclass(frozen=True)
class Examples:
    """Inputs and labels.

    Args:
        inputs: `tf_lottery.export.inputs.Inputs`, with all examples.
        y: Array of labels, or `None`.
    """

    inputs: Inputs
    y: np.ndarray | None

    def __len__(self):
        return len(self.inputs.arrays[0])

    @property
    def x(self) -> Any:
        """The arrays, nested as the model takes them."""
        return self.inputs.pack(self.inputs.arrays)

    def chosen(self, count, seed):
        """Returns `Inputs` with some of the examples, chosen at random.

        Args:
            count: Integer, at most how many.
            seed: Integer.
        """
        order = np.random.default_rng(seed).permutation(len(self))[:count]
        return dataclasses.replace(self.inputs, arrays=[a[order] for a in self.inputs.arrays])


def read_examples(
    name: str,
    data: Any,
    model: keras.Model,
    needs_labels: bool = True,
    refuses_weights: bool = False,
) -> Examples:
    """Returns the examples of a data set, in memory.

    Args:
        name: String, the argument's name for messages.
        data: A tuple of arrays `(x, y)`; a data set of batches `(x, y)`; or, if no labels are
            needed, inputs alone.
        model: The model that takes the inputs.
        needs_labels: Whether there must be labels. Defaults to `True`.
        refuses_weights: Whether there must be no sample weights. Defaults to `False`: they are
            ignored.

    Raises:
        ValueError: If the data do not fit the model, have no example or label, or sample weights
            that are refused.

    Example:

    >>> len(read_examples("train", (x, y), model))
    24
    """
    x, y = _read(name, data, refuses_weights)
    if x is None:
        raise ValueError(
            f"Argument `{name}` must be arrays or a data set. Received: no inputs (None)"
        )
    if y is None and needs_labels:
        raise ValueError(
            f"Argument `{name}` must be a tuple of arrays `(x, y)` or a data set of such batches. "
            f"Received: a {type(data).__name__} without labels"
        )
    if isinstance(y, dict):
        raise ValueError(
            f"Argument `{name}` must have one array of labels, for a model of one output. "
            f"Received: labels of {sorted(y)}"
        )
    labels = None if y is None else np.asarray(y)
    found = Examples(make_inputs(model, x, 0, name), labels)
    if labels is not None and len(labels) != len(found):
        raise ValueError(
            f"Argument `{name}` must have a label for every example. "
            f"Received: {len(found)} examples and {len(labels)} labels"
        )
    return found


def _read(name, data, refuses_weights):
    """Returns inputs and labels, the latter `None` if there are none."""
    if isinstance(data, tuple) and len(data) in (2, 3):
        if refuses_weights:
            _refuse_weights(name, [data])
        return data[0], data[1]
    batches = raw_batches(name, data)
    if batches is None:
        return data, None
    batches = list(batches)
    if refuses_weights:
        _refuse_weights(name, batches)
    return gather(name, batches)[:2]


def _refuse_weights(name, batches):
    if any(isinstance(b, tuple) and len(b) > 2 and b[2] is not None for b in batches):
        raise ValueError(
            f"Argument `{name}` must have no sample weights for further training, which would not "
            "take them into account. Received: tuples `(x, y, sample_weight)`"
        )
