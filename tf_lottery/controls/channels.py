"""The masks of a ticket by channel groups, for controls that move whole channels."""

from tf_lottery.model import check_sparse_model
from tf_lottery.model.paths import match_paths
from tf_lottery.sparsity.patterns import Channel


def by_group(ticket, pattern, model):
    """Returns the masks that a control moves, and a function that makes masks of kernels of them.

    Args:
        ticket: A `Ticket`.
        pattern: A `Pattern`.
        model: A `SparseModel` of the ticket's architecture, or `None`.

    Returns:
        Dict of the names of channel groups to matrices with one column for each channel, with the
        pattern `"channel"`, else of the masks of the ticket; and a function of such a dict.

    Raises:
        ValueError: If channels are moved and the model does not have the groups.
    """
    if not isinstance(pattern, Channel):
        return ticket.masks, lambda masks: masks
    if model is None or not check_sparse_model(model).couples(pattern):
        raise ValueError(
            "Argument `model` must be a `SparseModel` of the ticket's architecture with the "
            "pattern 'channel', since channels of several kernels move together; to move single "
            f"weights pass `pattern='unstructured'`. Received: model={model!r}"
        )
    kernels = {path: tuple(kernel.shape) for path, kernel in model.kernels.items()}
    pairs = match_paths({path: mask.shape for path, mask in ticket.masks.items()}, kernels)
    if set(pairs.values()) != set(kernels):
        raise ValueError(
            f"Argument `ticket` must have masks of all kernels of the groups, {sorted(kernels)}. "
            f"Received: {sorted(ticket.masks)}"
        )
    matrices = model.to_matrices({pairs[p]: ticket.masks[p] for p in pairs}, pattern)

    def masks_of_kernels(found):
        masks = model.from_matrices(found, pattern)
        return {path: masks[target] for path, target in pairs.items()}

    return matrices, masks_of_kernels
