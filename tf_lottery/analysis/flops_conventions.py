"""Ways to count the operations of a kernel, as the papers differ in them."""

CONVENTIONS = ("mac", "mac2", "micronet")


def kernel_flops(convention, shape, nonzeros, uses):
    """Returns the operations that a kernel takes for one example.

    - `"mac"`: multiply-accumulates, one for every weight that is not zero and every use.
    - `"mac2"`: two operations for each of them.
    - `"micronet"`: `2 * v + 1` for every output, `v` being the weights that are not zero
      and feed it: `v` multiplications, `v - 1` additions, a bias and a rectifier, whether
      the layer has them or not. So counts the code of RigL (arXiv:1911.11134, appendix H)
      with Google's MicroNet counter. It takes the kernel's last axis for the outputs, of
      which a depthwise kernel then has one, and the number of positions from the input as
      it comes, so that padding in a layer of its own adds some.

    Args:
        convention: `"mac"`, `"mac2"` or `"micronet"`.
        shape: Tuple, the kernel's shape.
        nonzeros: Number of the weights that are not zero.
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
