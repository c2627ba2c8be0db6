"""Scale the weights of a sparse network to the output variance of a dense one."""

import numpy as np

from tf_lottery import hosts
from tf_lottery.checks import choice
from tf_lottery.model import SparseModel, check_settled


def rescale_to_density(model: SparseModel, per: str = "unit") -> dict[str, np.ndarray | float]:
    """Multiplies the kernels of a sparse model by `sqrt(1 / density)`.

    Initializers choose the scale of weights for dense layers. With a fraction `density` of its
    inputs left, a unit's output has this fraction of the variance, and signals shrink from
    layer to layer. The factor restores the variance. It is that of the initializations
    `unit_scaled` and `layer_scaled` in the code of "Rigging the Lottery" (arXiv:1911.11134),
    applied to existing weights, such as a ticket's. Call this once, after masks are set and
    before training: every call multiplies again. Biases and other weights do not change.

    Some kernels are not matrices of inputs and outputs (see `SparseModel.matrix_shapes`): those
    of depthwise and transposed convolutions and some of `EinsumDense`. For these the density
    of the layer is used. Units without inputs stay zero.

    Args:
        model: A `SparseModel`.
        per: `"unit"` uses the density of each output unit's own inputs, `"layer"` that of the
            whole kernel. Defaults to `"unit"`.

    Returns:
        Dict of kernel paths to the factors: an array with one for each output unit, or a
        float where the density of the layer is used.

    Raises:
        ValueError: If `model` is not sparse or still learns its masks, or `per` is neither.

    Example:

    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> sparse = tfl.sparsify(model, sparsity=0.75)
    >>> tfl.retrain.rescale_to_density(sparse, per="layer")
    {'.../kernel': 2.0}
    """
    choice("per", per, ("unit", "layer"))
    shapes = check_settled(model).matrix_shapes
    masks = model.to_matrices(model.get_masks())
    factors = {
        path: _factors(mask, 0 if per == "unit" and shapes[path] else None)
        for path, mask in masks.items()
    }
    kernels = model.to_matrices(model.get_kernels())
    scaled = model.from_matrices(
        {path: (kernel * factors[path]).astype(kernel.dtype) for path, kernel in kernels.items()}
    )
    for path, variable in model.kernels.items():
        hosts.assign(variable, scaled[path])
    return factors


def _factors(mask, axis):
    density = mask.mean(axis=axis)
    factors = 1 / np.sqrt(np.where(density > 0, density, 1.0))
    return float(factors) if axis is None else factors
