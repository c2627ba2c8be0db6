"""Conventions for counting the operations of a kernel, which differ between papers."""

CONVENTIONS = ("mac", "mac2", "micronet")


def kernel_flops(convention, shape, nonzeros, uses):
    """Returns the operations that a kernel takes for one example.

    - `"mac"`: multiply-accumulates, one for every weight that is not zero and every use.
    - `"mac2"`: two operations for each of them.
    - `"micronet"`: `2 * v + 1` for every output with `v` weights that are not zero: `v`
      multiplications, `v - 1` additions, a bias and a rectifier, even if the layer has
      neither. This is the count of RigL's code (arXiv:1911.11134, appendix H), which uses
      Google's MicroNet counter. The kernel's last axis counts as the outputs, so a depthwise
      kernel has one. The number of positions is that of `"same"` padding, so a separate
      padding layer adds positions.

    Args:
        convention: `"mac"`, `"mac2"` or `"micronet"`.
        shape: Tuple, the kernel's shape.
        nonzeros: Number of weights that are not zero.
        uses: Integer, how often each weight is multiplied.

    Returns:
        A number of the type of `nonzeros`.

    Example:

    >>> [kernel_flops(name, (4, 3), 6, uses=10) for name in CONVENTIONS]
    [60, 120, 150]
    """
    if convention == "mac":
        return nonzeros * uses
    if convention == "mac2":
        return 2 * nonzeros * uses
    return (2 * nonzeros + shape[-1]) * uses
