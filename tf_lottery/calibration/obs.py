"""Prunes one layer by Optimal Brain Surgeon, in the blocked form of SparseGPT."""

import numpy as np

from tf_lottery.sparsity import patterns
from tf_lottery.sparsity.masks import top_k_masks

BLOCK_SIZE = 128


def inverse_factor(gram, damping):
    """Returns U with `H^-1 = U^T U`, upper triangular, H being the damped Hessian of a layer.

    Row `i` of U, from the diagonal on, is the first row of the inverse of `H[i:, i:]`, divided by
    the root of its first entry, `U[i, i]`.

    Args:
        gram: Array (inputs, inputs), the products of the inputs with each other.
        damping: Float, what is added to the diagonal, in proportion to its mean.

    Example:

    >>> inverse_factor(np.array([[1.0, 0.5], [0.5, 1.0]]), damping=0).round(3)
    array([[ 1.155, -0.577],
           [ 0.   ,  1.   ]])
    """
    mean = np.trace(gram) / len(gram)
    # Without any input, all weights cost equally little.
    hessian = gram + damping * mean * np.eye(len(gram)) if mean else np.eye(len(gram))
    return np.linalg.cholesky(np.linalg.inv(hessian)).T


def prune_layer(weights, factor, plan, *, pattern, mask):
    """Prunes the weights that cost least, and changes the others to make up for them.

    The inputs are visited in order, in blocks of 128, or of one group of an N:M pattern. Of
    a block, the weights are pruned for which `w^2 / [H^-1]_pp` is lowest, H being the Hessian of
    the inputs that are not visited yet; then every pruned weight moves those by
    `-w [H^-1]_:p / [H^-1]_pp` (Hassibi and Stork, 1993). One Cholesky factor holds the inverses of
    all visits, for all units: SparseGPT (arXiv:2301.00774, algorithm 1).

    Args:
        weights: Array (inputs, units). Inputs that the mask does not have, at the end, are not
            pruned, as that of a bias.
        factor: Array (inputs, inputs), the result of `inverse_factor`.
        plan: Boolean array of the mask's shape, of which only the number of kept weights in every
            block counts.
        pattern: A `Pattern`.
        mask: Boolean array (inputs, units). Weights that it prunes stay pruned.

    Returns:
        The new weights and the new mask.

    Example:

    >>> weights, factor = np.array([[1.0], [2.0]]), np.array([[1.155, -0.577], [0.0, 1.0]])
    >>> plan, pattern = np.array([[True], [False]]), patterns.Unstructured()
    >>> new, _ = prune_layer(weights, factor, plan, pattern=pattern, mask=np.ones((2, 1), bool))
    >>> new.round(2)
    array([[0. ],
           [2.5]])
    """
    weights = weights.astype("float64")
    num_inputs = len(mask)
    kept = np.zeros_like(mask)
    size = _block_size(pattern, num_inputs)
    for start in range(0, num_inputs, size):
        block = slice(start, min(start + size, num_inputs))
        pruned = 1.0 - plan[block].mean()
        if pruned < 1:
            scores = costs(weights, factor, block)
            kept[block] = top_k_masks(scores, pruned, pattern=pattern, masks=mask[block], floor=0)
        _eliminate(weights, factor, block, kept[block])
    weights[:num_inputs] = np.where(kept, weights[:num_inputs], 0.0)
    return weights, kept


def costs(weights, factor, block):
    """Returns `w^2 / [H^-1]_pp` of the weights of a block of inputs, twice the loss they cost.

    Args:
        weights: Array (inputs, units).
        factor: Array (inputs, inputs), the result of `inverse_factor`.
        block: Slice of inputs.
    """
    return np.square(weights[block] / np.diag(factor)[block, None])


def _eliminate(weights, factor, block, kept):
    """Sets the pruned weights of a block to zero, and moves those of the inputs after them."""
    errors = np.zeros_like(weights[block])
    for i, row in enumerate(range(block.start, block.stop)):
        errors[i] = np.where(kept[i], 0.0, weights[row] / factor[row, row])
        rest = slice(row, block.stop)
        weights[rest] -= np.outer(factor[row, rest], errors[i])
    weights[block.stop :] -= factor[block, block.stop :].T @ errors


def _block_size(pattern, num_inputs):
    """Returns how many inputs are chosen from at a time: whole groups of the pattern."""
    if isinstance(pattern, patterns.NM):
        return pattern.m
    if isinstance(pattern, patterns.Block):
        return max(BLOCK_SIZE // pattern.rows, 1) * pattern.rows
    return BLOCK_SIZE if isinstance(pattern, patterns.Unstructured) else num_inputs
