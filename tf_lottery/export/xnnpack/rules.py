"""Rules for which operators XNNPACK can run with channels first, as its sparse kernels need.

An operator can *enter* that layout (it reads channels last and writes channels first), stay
*inside*, or *leave* it. All others need channels last.
"""

import dataclasses
import math

_UNARY = """ABS CEIL COS ELU EXP FLOOR GELU HARD_SWISH LEAKY_RELU LOG LOGISTIC NEG RELU RELU6
    RELU_N1_TO_1 ROUND RSQRT SIN SQRT SQUARE TANH"""
_OTHERS = """ADD AVERAGE_POOL_2D BATCH_MATMUL CONCATENATION CONV_2D DEPTHWISE_CONV_2D
    DEPTH_TO_SPACE DEQUANTIZE DIV EXPAND_DIMS FULLY_CONNECTED MAXIMUM MAX_POOL_2D MEAN MINIMUM
    MUL PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RESHAPE RESIZE_BILINEAR SLICE SOFTMAX
    SPACE_TO_DEPTH SPLIT SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TRANSPOSE TRANSPOSE_CONV"""
UNARY = frozenset(_UNARY.split())
# Operators that the delegate supports; all others split the network into parts. See `VisitNode`
# in tensorflow/lite/delegates/xnnpack/xnnpack_delegate.cc.
DELEGATED = UNARY | frozenset(_OTHERS.split())
PAD_BY_ONE = 'Put `ZeroPadding2D(1)` before it and convolve with `padding="valid"`.'
POOL = "Reduce with `GlobalAveragePooling2D` instead."


@dataclasses.dataclass(frozen=True)
class Role:
    """What an operator can do with channels first.

    Args:
        enters: Boolean, reads channels last and writes channels first.
        inside: Boolean, reads and writes channels first.
        leaves: Boolean, reads channels first and writes channels last.
        reason: String, why it can do none of these. Defaults to `""`.
        advice: String, what to change. Defaults to `""`.
    """

    enters: bool = False
    inside: bool = False
    leaves: bool = False
    reason: str = ""
    advice: str = ""


def role(node):
    """Returns the `Role` of a node.

    Args:
        node: A `Node` of `tf_lottery.export.xnnpack.graph`.
    """
    if node.dtypes - {"float32"}:
        types = ", ".join(sorted(node.dtypes - {"float32"}))
        return Role(
            reason=f"computes with {types}",
            advice='Quantize only the stored weights: `quantize="weight_int8"`.',
        )
    if node.kind in UNARY or node.kind == "RESIZE_BILINEAR":
        return _four_axes(node)
    rule = RULES.get(node.kind)
    if rule is None:
        return Role(reason="needs channels last", advice=ADVICE.get(node.kind, ""))
    return rule(node)


def _four_axes(node):
    shape = node.input_shape
    if node.kind == "SQUARE" and node.readers == ("MEAN",):
        return Role(reason="is merged with the mean behind it into one operator")
    if len(shape) != 4:
        return _vectors()
    if node.kind == "RESIZE_BILINEAR" and min(shape[1:3]) < 2:
        return Role(reason="resizes an image of one row or column")
    return Role(inside=True)


def _vectors():
    return Role(reason="works on vectors")


def _convolution(node):
    options, (_, height, width, channels) = node.options, node.weights_shape
    if channels != node.input_shape[3]:
        return Role(reason="convolves in groups", advice="Convolve all channels: `groups=1`.")
    if (options.dilationHFactor, options.dilationWFactor) != (1, 1):
        return Role(reason="is dilated", advice="Use `dilation_rate=1`.")
    strides = options.strideH, options.strideW
    if (height, width) == (1, 1):
        if strides != (1, 1):
            return Role(
                reason="is a 1x1 convolution with strides",
                advice="Let the depthwise convolution before it take the strides.",
            )
        if node.padding != ((0, 0), (0, 0)):
            return Role(reason="pads a 1x1 convolution", advice="Convolve without padding.")
        return Role(inside=True)
    if (height, width) != (3, 3) or strides != (2, 2):
        return Role(
            reason=f"is a {height}x{width} convolution with strides {strides[0]}x{strides[1]}",
            advice="Begin with a 3x3 convolution of strides 2; go on with depthwise and 1x1 ones.",
        )
    if channels != 3:
        return Role(
            reason=f"begins the network with {channels} input channels, not 3",
            advice="Give it 3 channels, for one channel three copies: `Concatenate()([x, x, x])`.",
        )
    return Role(enters=True) if node.padding == ((1, 1), (1, 1)) else _uneven(node, PAD_BY_ONE)


def _uneven(node, advice):
    sides = (
        "unevenly"
        if node.padding is None
        else "by {}, {} rows and {}, {} columns".format(*node.padding[0], *node.padding[1])
    )
    return Role(reason=f"pads {sides}, not the same on all sides as it must", advice=advice)


def _depthwise(node):
    options, (_, height, width, channels) = node.options, node.weights_shape
    if (options.dilationHFactor, options.dilationWFactor) != (1, 1):
        return Role(reason="is dilated", advice="Use `dilation_rate=1`.")
    if channels != node.input_shape[3]:
        return Role(reason="multiplies its channels", advice="Use `depth_multiplier=1`.")
    if (height, width) not in ((3, 3), (5, 5)):
        return Role(reason=f"is {height}x{width} wide", advice="Use a kernel of 3x3 or 5x5.")
    if options.strideH != options.strideW or options.strideH > 2:
        return Role(reason="has strides other than 1 or 2", advice="Use strides of 1 or 2.")
    side = height // 2
    if node.padding == ((side, side), (side, side)):
        return Role(inside=True)
    return _uneven(node, PAD_BY_ONE.replace("(1)", f"({side})"))


def _fully_connected(node):
    return Role(inside=True) if _works_on_images(node) else _vectors()


def _works_on_images(node):
    return len(node.input_shape) == len(node.output_shape) == 4


def _two_operands(node):
    if node.num_constants or {len(shape) for shape in node.input_shapes} != {4}:
        return Role(
            reason="has an operand that is not an image: a constant or a vector",
            advice="Fold constants into the weights of a convolution; keep vectors as images "
            "of one pixel: `GlobalAveragePooling2D(keepdims=True)`.",
        )
    return Role(inside=True)


def _reduction(node):
    if len(node.input_shape) != 4:
        return _vectors()
    return Role(inside=bool(node.options.keepDims), leaves=True)


def reduces_images(node):
    """Returns whether a node that leaves channels first computes correct values there.

    Means and sums do so only over rows and columns.

    Args:
        node: A `Node`.
    """
    return node.kind == "DEPTH_TO_SPACE" or node.axes == {1, 2}


RULES = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "ADD": _two_operands,
    "MUL": _two_operands,
    "MEAN": _reduction,
    "SUM": _reduction,
    "DEPTH_TO_SPACE": lambda node: Role(leaves=True),
}
ADVICE = {
    "REDUCE_MAX": POOL,
    "MAX_POOL_2D": "Use a depthwise convolution of strides 2 instead.",
    "AVERAGE_POOL_2D": "Use a depthwise convolution of strides 2 instead.",
    "RESHAPE": "Use `GlobalAveragePooling2D` instead, the same for images of one pixel.",
    "CONCATENATION": "Use `Add` instead.",
    "SUB": "Use `Add` instead: the convolution before it can change the sign.",
    "PAD": "Pad right before a convolution, which is then the only reader.",
    "PRELU": "Use `LeakyReLU` instead.",
    "RESIZE_NEAREST_NEIGHBOR": 'Resize with `interpolation="bilinear"`.',
}


def padding(options, kernel, pad):
    """Returns how many rows and columns of zeros pad each side of a convolution's input.

    Args:
        options: The operator's options.
        kernel: Tuple of two integers, the height and width of the kernel.
        pad: Pairs of integers, the rows and columns that a PAD operator before it adds.

    Returns:
        Two pairs, or `None` for strides with `"same"` padding, where it depends on the size of
        the input.
    """
    from ai_edge_litert import schema_py_generated as schema

    if options.padding == schema.Padding.VALID:
        return pad
    if (options.strideH, options.strideW) != (1, 1):
        return None
    dilations = options.dilationHFactor, options.dilationWFactor
    totals = [(size - 1) * rate for size, rate in zip(kernel, dilations, strict=True)]
    same = [(total // 2, total - total // 2) for total in totals]
    return tuple((a + c, b + d) for (a, b), (c, d) in zip(same, pad, strict=True))


def multiplies_pixels(node):
    """Returns whether a node is a 1x1 convolution or a dense layer on images.

    Only the zeros in their weights matter to XNNPACK.

    Args:
        node: A `Node`.
    """
    if node.kind == "FULLY_CONNECTED":
        return bool(node.weights_shape) and _works_on_images(node)
    return node.kind == "CONV_2D" and math.prod(node.weights_shape[1:3]) == 1
