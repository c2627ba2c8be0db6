"""Chooses the form in which the weights of a TFLite file are stored: a form must pay."""

import dataclasses

from tf_lottery.export.sparse_encoding import SparseEncoding, encode

DIRECT_BLOCKS = {"float32": 4, "int8": 16}
# Block sizes: how many consecutive inputs of an output share one position.
BLOCKS = (1, 4, 16)
# `"disk"` takes the smallest form that is not too slow, `"latency"` the one that is expected to
# be the fastest, `"direct"` and `"unpacked"` the smallest of their kind.
GOALS = ("disk", "latency", "direct", "unpacked")
# Bytes of the tensor, the tables and the operator that a sparse tensor adds to a file.
OVERHEAD = 300
# A sparse form is taken only if it saves this fraction of the bytes.
MIN_GAIN = 0.1
MAX_SLOWDOWN = 1.5
# Below these block densities the direct kernel is faster than the dense one, for one row of
# inputs and for several rows; measured by `benchmarks/export_latency.py`.
FAST_DENSITY, FAST_DENSITY_OF_ROWS = 0.15, 0.06
# Time of the direct kernel as a multiple of the dense one: `a + b * density` of the blocks, for
# one row of inputs and for several; by the types of inputs and weights. Lines through the times
# of layers of 1024 x 1024 at densities of 0.02 to 0.5, for 1 and 16 rows.
SLOWDOWNS = {
    ("float32", "float32"): ((0.0, 4.0), (0.1, 7.0)),
    ("float32", "int8"): ((0.2, 3.6), (0.35, 9.0)),
    ("int8", "int8"): ((0.5, 16.0), (1.4, 36.0)),
}


@dataclasses.dataclass(frozen=True)
class Form:
    """A form of weights.

    Args:
        encoding: `SparseEncoding`.
        is_direct: Boolean, whether the operator multiplies by it as it is.
    """

    encoding: SparseEncoding
    is_direct: bool


def check_slowdown(max_slowdown):
    """Checks an argument `max_slowdown`.

    Raises:
        ValueError: If it is not a number of 1 or more.
    """
    if not isinstance(max_slowdown, (int, float)) or not max_slowdown >= 1:
        raise ValueError(
            "Argument `max_slowdown` must be a number of 1 or more, or `math.inf`. "
            f"Received: max_slowdown={max_slowdown!r}"
        )


def best_form(weights, optimize_for, runtime="litert", max_slowdown=MAX_SLOWDOWN):
    """Returns the `Form` to store weights in, or `None` for dense.

    Args:
        weights: `Weights`.
        optimize_for: String, one of `GOALS`.
        runtime: `"litert"` or `"portable"`. Defaults to `"litert"`.
        max_slowdown: Float, as in `sparsify_flatbuffer`. Defaults to `1.5`.
    """
    array, is_portable = weights.array, runtime == "portable"
    forms = []
    for encoding in [encode(array)] if is_portable else _encodings(array):
        if not is_portable and _can_be_direct(weights, encoding):
            forms.append(Form(encoding, is_direct=True))
        if _can_unpack(weights):
            forms.append(Form(encoding, is_direct=False))
    limit = (1 - MIN_GAIN) * array.nbytes - OVERHEAD
    forms = [form for form in forms if form.encoding.num_bytes < limit]
    if optimize_for == "unpacked":
        forms = [form for form in forms if not form.is_direct]
    elif optimize_for != "direct":
        too_slow = _too_slow(weights, forms, optimize_for, max_slowdown)
        forms = [form for form in forms if form not in too_slow]
    if optimize_for in ("latency", "direct"):
        forms = [form for form in forms if form.is_direct] or forms
    return min(forms, key=lambda form: form.encoding.num_bytes, default=None)


def _too_slow(weights, forms, optimize_for, max_slowdown):
    """Returns the direct forms that are expected to be slower than dense storage.

    For `"latency"` these are all of them. For `"disk"` they are those that are slower than
    `max_slowdown`, and those in whose place the unpacked form of the same size is possible.
    """
    slow = [form for form in forms if form.is_direct and not _is_fast(weights, form.encoding)]
    if optimize_for != "latency" and not _can_unpack(weights):
        slow = [form for form in slow if _slowdown(weights, form.encoding) > max_slowdown]
    return slow


def _encodings(array):
    for block in BLOCKS:
        if array.shape[-1] % block == 0:
            yield encode(array, block=block)
    # Along a shorter axis, positions fit into fewer bits.
    if array.shape[0] < array.shape[-1]:
        yield encode(array, axis=0)


def _can_be_direct(weights, encoding):
    # The kernel reads sparse weights as dense ones if the activations have 16 bits.
    return (
        weights.operator == "FULLY_CONNECTED"
        and not weights.behind_dequantize
        and (weights.dtype, weights.array.dtype.name) in SLOWDOWNS
        and encoding.block == DIRECT_BLOCKS[weights.array.dtype.name]
    )


def _is_fast(weights, encoding):
    if weights.rows > 1:
        return encoding.density < FAST_DENSITY_OF_ROWS
    return encoding.density < FAST_DENSITY


def _slowdown(weights, encoding):
    """Returns the expected time of the direct kernel as a multiple of the dense one."""
    lines = SLOWDOWNS[weights.dtype, weights.array.dtype.name]
    start, slope = lines[weights.rows > 1]
    return start + slope * encoding.density


def _can_unpack(weights):
    if weights.behind_dequantize or weights.array.dtype.name == "float32":
        return True
    # Delegates need int8 weights stored in the file itself, not unpacked at load. The only
    # exception are int8 convolutions.
    return weights.operator == "CONV_2D" and weights.dtype == "int8"
