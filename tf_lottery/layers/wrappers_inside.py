"""What sparse models inside a model prune, and what they add to it."""

from tf_lottery.layers.masked import masked_layers


def masks_by_kernel(model):
    """Returns a dict of the `id` of every kernel that wrappers in a model prune to its mask.

    Args:
        model: A built `keras.Layer`.

    Example:

    >>> [mask.shape for mask in masks_by_kernel(sparse).values()]
    [(8, 10), (10, 2)]
    """
    return {
        id(kernel): mask
        for wrapper in masked_layers(model)
        for kernel, mask in zip(wrapper.kernels, wrapper.get_masks(), strict=True)
    }


def plain_weights(model):
    """Returns the list of the weights of a model without those of parts, such as masks.

    Args:
        model: A built `keras.Layer`.

    Example:

    >>> len(sparse.weights), len(plain_weights(sparse))
    (6, 4)
    """
    parts = [part for wrapper in masked_layers(model) for part in wrapper.parts]
    of_parts = {id(variable) for part in parts for variable in part.variables}
    return [weight for weight in model.weights if id(weight) not in of_parts]
