"""Scores of channel groups: how important each channel is, over all layers that make it.

Every function has the same signature, `(group, weights, statistics=None)`: a `Group`, a dict of
keys to the arrays of its members, and what some scores measure on data, a dict of keys to
arrays. Each returns a float array with one score for each channel, the mean over the members.
Channels with low scores are pruned first.

"DepGraph" (arXiv:2301.12900, section 3.3) reduces scores over members in this way, and divides
them by their mean in the group, so that groups can be compared: see `normalized`.
"""

from collections.abc import Callable

import numpy as np

from tf_lottery.checks import named_function
from tf_lottery.sparsity.groups import Group, Member


def l1(group: Group, weights: dict, statistics: dict | None = None) -> np.ndarray:
    """Returns the L1 norms of the channels' weights, as means over the kernels of the group.

    "Pruning Filters for Efficient ConvNets" (arXiv:1608.08710, section 3.1).

    Example:

    >>> l1(units, {"kernel": np.array([[1.0, -4.0], [2.0, 2.0]])})
    array([3., 6.])
    """
    del statistics
    return _mean(_sums(member, np.abs(weights[member.key])) for member in group.kernels)


def l2(group: Group, weights: dict, statistics: dict | None = None) -> np.ndarray:
    """Returns the L2 norms of the channels' weights, as means over the kernels of the group.

    Example:

    >>> l2(units, {"kernel": np.array([[3.0, 0.0], [4.0, 2.0]])})
    array([5., 2.])
    """
    del statistics
    return _mean(np.sqrt(_sums(member, weights[member.key] ** 2)) for member in group.kernels)


def norm_scale(group: Group, weights: dict, statistics: dict | None = None) -> np.ndarray:
    """Returns the magnitudes of the scales of normalization, as means over the norms.

    "Learning Efficient Convolutional Networks through Network Slimming" (arXiv:1708.06519,
    section 3), which trains with an L1 penalty on the scales. The score of groups without such
    scales is `l1`.

    Example:

    >>> norm_scale(units, {"gamma": np.array([0.5, -2.0])})
    array([0.5, 2. ])
    """
    scales = [member for member in group.companions if _name(member) == "gamma"]
    if not scales:
        return l1(group, weights, statistics)
    return _mean(_sums(member, np.abs(weights[member.key])) for member in scales)


def taylor(group: Group, weights: dict, statistics: dict | None = None) -> np.ndarray:
    """Returns to first order how much the loss changes without a channel, squared.

    The score of a kernel's channel is `(sum of g * w) ** 2` over its weights `w` with the
    gradients `g`: "Importance Estimation for Neural Network Pruning" (arXiv:1906.10771, equation
    8). The mean over batches of these scores estimates the expectation.

    Args:
        group: `Group`.
        weights: Dict of keys to arrays.
        statistics: Dict of the keys of kernels to the gradients of the loss on one batch.

    Example:

    >>> kernel, gradients = np.array([[1.0, 2.0], [3.0, 1.0]]), np.array([[1.0, 1.0], [1.0, -1.0]])
    >>> taylor(units, {"kernel": kernel}, {"kernel": gradients})
    array([16.,  1.])
    """
    return _mean(
        _sums(member, gradients * weights[member.key]) ** 2
        for member, gradients in _measured(group.kernels, statistics, "taylor")
    )


def obd(group: Group, weights: dict, statistics: dict | None = None) -> np.ndarray:
    """Returns to second order how much the loss grows without a channel.

    "Optimal Brain Damage" (LeCun et al., 1990): `h * w ** 2 / 2`, summed over the channel's
    weights. The mean squared gradient stands for the diagonal `h` of the Hessian, which for the
    loss of single examples is the empirical Fisher information.

    Args:
        group: `Group`.
        weights: Dict of keys to arrays.
        statistics: Dict of the keys of kernels to mean squared gradients.

    Example:

    >>> kernel, squares = np.array([[1.0, 2.0], [3.0, 1.0]]), np.array([[2.0, 1.0], [0.0, 2.0]])
    >>> obd(units, {"kernel": kernel}, {"kernel": squares})
    array([1., 3.])
    """
    return _mean(
        _sums(member, squares * weights[member.key] ** 2) / 2
        for member, squares in _measured(group.kernels, statistics, "obd")
    )


def activation(group: Group, weights: dict, statistics: dict | None = None) -> np.ndarray:
    """Returns the mean magnitudes of the channels' activations.

    "Pruning Convolutional Neural Networks for Resource Efficient Inference" (arXiv:1611.06440,
    section 2.2), measured where a layer reads the channels.

    Args:
        group: `Group`.
        weights: Dict of keys to arrays, which the score does not need.
        statistics: Dict of the keys of readers to arrays: the mean magnitude of each of the
            inputs that the variable multiplies, along the axis of the member. Readers that are
            not in it do not count, but one must be.

    Example:

    >>> activation(units, {}, {"next": np.array([0.25, 3.0])})
    array([0.25, 3.  ])
    """
    del weights
    read = [member for member in group.readers if member.key in (statistics or {})]
    means = [means for _, means in _measured(read, statistics, "activation")]
    return _mean(
        array[member.positions].mean(axis=1) for member, array in zip(read, means, strict=True)
    )


# Names to functions, and those of them that need no data.
SCORES: dict[str, Callable] = {
    function.__name__: function for function in (l1, l2, norm_scale, taylor, obd, activation)
}
OF_WEIGHTS = ("l1", "l2", "norm_scale")


def get(identifier: str | Callable) -> Callable:
    """Returns the score function that `identifier` names.

    Args:
        identifier: `"l1"`, `"l2"`, `"norm_scale"`, `"taylor"`, `"obd"`, `"activation"`, or a
            function with the signature of this module.

    Returns:
        The function.

    Raises:
        ValueError: If `identifier` is neither.

    Example:

    >>> get("norm_scale").__name__
    'norm_scale'
    """
    return named_function("scores", identifier, SCORES)


def normalized(scores: np.ndarray) -> np.ndarray:
    """Returns scores divided by their mean, so that those of several groups can be compared.

    Args:
        scores: Float array, the scores of a group's channels.

    Returns:
        Array of the same shape. Scores with a mean of 0 stay as they are.

    Example:

    >>> normalized(np.array([1.0, 3.0]))
    array([0.5, 1.5])
    """
    mean = np.mean(scores)
    return scores / mean if mean else scores


def kind_of(group: Group) -> tuple:
    """Returns the kind of a group: like groups have members of the same roles, names and axes.

    "Isomorphic Pruning for Vision Models" (arXiv:2407.04616) ranks only channels of such groups
    together, since scores of other structures do not compare.

    Args:
        group: `Group`.

    Returns:
        Tuple that can be compared.

    Example:

    >>> kind_of(units)[:2]
    (('companion', 'bias', 0, False), ('companion', 'gamma', 0, False))
    """
    roles = {"kernel": group.kernels, "companion": group.companions, "reader": group.readers}
    # Behind `Flatten`, a channel has as many positions as there are pixels.
    return tuple(
        sorted(
            (role, _name(member), member.axis, member.positions.shape[1] > 1)
            for role, members in roles.items()
            for member in members
        )
    )


def _name(member: Member) -> str:
    return member.key.rpartition("/")[2].partition("#")[0]


def _sums(member, array):
    """Returns the sum of the entries that belong to each channel."""
    others = tuple(axis for axis in range(np.ndim(array)) if axis != member.axis)
    return np.sum(array, axis=others)[member.positions].sum(axis=1)


def _mean(scores):
    return np.mean(list(scores), axis=0)


def _measured(members, statistics, name):
    """Returns pairs of a member and what was measured of it."""
    if not members or not all(member.key in (statistics or {}) for member in members):
        raise ValueError(
            f"Scores {name!r} are measured on data, which `tfl.channel_scores` does. Expected the "
            f"argument `statistics` with an array for {[member.key for member in members]}. "
            f"Received: {sorted(statistics or {})}"
        )
    return [(member, statistics[member.key]) for member in members]
