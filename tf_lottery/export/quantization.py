"""The precisions of TFLite files: quantizes files and refuses combinations that cannot work."""

import contextlib

import keras
import numpy as np

from tf_lottery._keras import all_layers
from tf_lottery.export import flatbuffer
from tf_lottery.export.child_process import TASKS, ChildError, ChildProcess, KeptProcess
from tf_lottery.export.errors import ExportError
from tf_lottery.export.integer_graph import mend
from tf_lottery.export.integer_interface import with_uint8
from tf_lottery.layers.kernels import find_kernels, matrix_shapes

# The largest difference from Keras, as a fraction of the largest output, that the rounding of
# each precision can cause.
TOLERANCES = {
    None: 1e-5,
    "float16": 5e-3,
    "weight_int8": 3e-2,
    "dynamic_int8": 1e-1,
    "int8": 1e-1,
    "int16x8": 3e-2,
}
# Precisions in which activations are integers too, whose ranges are measured before.
INTEGER = ("int8", "int16x8")
STORAGES = ("auto", "sparse", "dense")
# Sparse int8 weights of a dense layer are stored in blocks of this many consecutive inputs.
INT8_BLOCK = 16


def check_combination(model, quantize, storage, representative_data, io_type="float32"):
    """Refuses combinations that cannot work, and names the closest one that does.

    Args:
        model: A plain `keras.Model` whose kernels have zeros for pruned weights.
        quantize: `None` or a string, a key of `TOLERANCES`.
        storage: String, one of `STORAGES`.
        representative_data: The user's argument, or `None`.
        io_type: String, the type of the inputs and outputs. Defaults to `"float32"`. Others, and
            so microcontrollers, allow no other precision than `"int8"`.

    Raises:
        ValueError: If the combination cannot work.
    """
    if quantize in INTEGER and representative_data is None:
        other = "; quantize='dynamic_int8' needs none" if io_type == "float32" else ""
        raise ValueError(
            f"Argument `representative_data` must be given for quantize={quantize!r}, which "
            f"measures the ranges of all activations on it{other}. "
            "Received: representative_data=None"
        )
    if quantize not in INTEGER and representative_data is not None:
        raise ValueError(
            "Argument `representative_data` must be None unless quantize='int8' or 'int16x8'; "
            "pass the inputs for the comparison as `sample_inputs`. "
            f"Received: quantize={quantize!r}"
        )
    if quantize in INTEGER:
        _check_recurrent_layers(model, quantize, io_type)
    if storage == "sparse":
        _check_zeros(model, quantize)


def quantizer_process():
    """Returns a `KeptProcess` that quantizes files, for use in a `with` block."""
    return KeptProcess(lambda: ChildProcess(TASKS / "quantize.py"))


def quantized(content, quantize, inputs=None, io_type="float32", ranges=None, process=None):
    """Returns the bytes of the quantized file. All zeros are still stored.

    Args:
        content: Bytes of a float32 file.
        quantize: `None` to return `content` unchanged, or a string, a key of `TOLERANCES`.
        inputs: `Inputs`, the representative data of `"int8"` and `"int16x8"`. Defaults to `None`.
        io_type: String, the type of the inputs and outputs of `"int8"`: `"float32"`, `"int8"` or
            `"uint8"`. Defaults to `"float32"`.
        ranges: Dict of names of tensors to pairs of the smallest and largest value, to use
            instead of those measured on `inputs`. Defaults to `None`.
        process: The process of `quantizer_process`. Defaults to `None`: a new one.

    Raises:
        ExportError: If the quantizer refuses the file, or crashes.
    """
    if quantize is None:
        return content
    try:
        with contextlib.ExitStack() as stack:
            process = process or stack.enter_context(quantizer_process())
            steps = list(inputs.steps()) if inputs is not None else []
            result = process.call(
                "quantize",
                content=content,
                mode=quantize,
                steps=steps,
                given=ranges or {},
                io_type="float32" if io_type == "float32" else "int8",
            )
    except ChildError as error:
        others = "quantize='weight_int8' or None"
        if io_type != "float32":
            others = f"runtime='litert', io_type='float32' and {others}"
        problem = f"The model cannot be quantized: {error}"
        raise ExportError(
            f"{problem} Nothing was written. Pass {others}. Received: quantize={quantize!r}",
            problem,
        ) from error
    result = mend(result, content) if quantize in INTEGER else result
    result = with_uint8(result) if io_type == "uint8" else result
    # Written anew because the quantizer stores equal vectors several times.
    return flatbuffer.write_model(flatbuffer.read_model(result))


def _check_recurrent_layers(model, quantize, io_type):
    # Keras has no public way to walk the sublayers of an arbitrary layer.
    loops = [
        layer.name
        for layer in all_layers(model)
        if isinstance(layer, keras.layers.RNN) and not layer.unroll
    ]
    if loops:
        other = ", or pass quantize='dynamic_int8'" if io_type == "float32" else ""
        raise ValueError(
            f"Argument `quantize` must not be {quantize!r} for a model with recurrent layers that "
            "run in a loop, whose activations cannot be observed. Build them with `unroll=True`"
            f"{other}. Received: quantize={quantize!r}, layers {loops}"
        )


def _check_zeros(model, quantize):
    kernels = find_kernels(model, frozen=True).kernels
    arrays = [keras.ops.convert_to_numpy(kernel) for kernel in kernels]
    if all(np.all(array) for array in arrays):
        raise ValueError(
            "Argument `storage` must be 'dense' or 'auto' for a model without zeros in its "
            "kernels. Received: storage='sparse'"
        )
    if quantize == "int16x8":
        raise ValueError(
            "Argument `storage` must be 'dense' or 'auto' for quantize='int16x8': no runtime "
            "multiplies sparse weights by 16-bit activations. Received: storage='sparse'"
        )
    if quantize not in ("dynamic_int8", "int8"):
        return
    shapes = matrix_shapes(model, kernels)
    blocks = any(map(_has_empty_blocks, arrays, shapes))
    convolutions = quantize == "int8" and any(array.ndim > 2 for array in arrays)
    if not blocks and not convolutions:
        raise ValueError(
            "Argument `storage` must be 'dense' or 'auto' here: int8 arithmetic reads sparse "
            f"weights only in blocks of {INT8_BLOCK} inputs, and no dense kernel has empty "
            f"ones. Prune with `pattern=\"{INT8_BLOCK}x1\"`, or pass quantize='weight_int8'. "
            f"Received: storage='sparse', quantize={quantize!r}"
        )


def _has_empty_blocks(array, shape):
    if shape is None or array.ndim != 2 or shape[0] % INT8_BLOCK:
        return False
    blocks = array.reshape(-1, INT8_BLOCK, shape[1])
    return not np.all(np.any(blocks, axis=1))
