"""Patterns: which groups of weights are kept or pruned together."""

import dataclasses

import keras

from tf_lottery.sparsity.serializable import Serializable


@keras.saving.register_keras_serializable("tf_lottery")
@dataclasses.dataclass(frozen=True)
class Unstructured(Serializable):
    """Every weight is kept or pruned on its own.

    A pattern pools the scores of a kernel into the scores of its groups; the
    groups are ranked; and the mask of the groups is expanded to the kernel's
    shape. Here each weight is its own group, so both steps are the identity.

    Example:

    >>> Unstructured().pool(np.array([[3.0, 1.0]]))
    array([[3., 1.]])
    """

    def pool(self, scores):
        """Returns the scores of the groups, higher meaning kept longer."""
        return scores

    def expand(self, group_mask, shape):
        """Returns the mask of `shape` that keeps the groups in `group_mask`."""
        return group_mask.reshape(shape)


_PATTERNS = {"unstructured": Unstructured}


def get(identifier):
    """Returns the pattern that `identifier` names.

    Args:
        identifier: A pattern, or the name of one: `"unstructured"`.

    Returns:
        An object with the methods `pool(scores)` and `expand(mask, shape)`.

    Raises:
        ValueError: If `identifier` is neither.
    """
    if isinstance(identifier, str) and identifier in _PATTERNS:
        return _PATTERNS[identifier]()
    if hasattr(identifier, "pool") and hasattr(identifier, "expand"):
        return identifier
    raise ValueError(
        f"Argument `pattern` must be a pattern or one of {sorted(_PATTERNS)}. "
        f"Received: pattern={identifier!r}"
    )
