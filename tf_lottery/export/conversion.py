"""Converts a Keras model to a float32 TFLite file with all zeros stored."""

import contextlib
import logging
import re
import tempfile

import keras
import numpy as np

from tf_lottery._keras import all_layers
from tf_lottery.export.child_process import (
    TASKS,
    ChildCrash,
    ChildError,
    ChildProcess,
    KeptProcess,
)
from tf_lottery.export.errors import ExportError
from tf_lottery.export.given_ranges import marked
from tf_lottery.export.inputs import SIGNATURE_NAME, flat_keys


def keras_outputs(model, inputs):
    """Returns the outputs of a model in inference mode, a dict of names to stacked arrays.

    Args:
        model: A built `keras.Model`.
        inputs: `Inputs`.

    Raises:
        ExportError: If a weight or an output is not finite.
    """
    _check_weights(model)
    steps = []
    # The stateless scope keeps the states of stateful layers unchanged. The CPU is used because
    # accelerators may round the operands of float32 products to fewer bits.
    with keras.StatelessScope(), keras.device("cpu"):
        for step in inputs.steps():
            outputs = model(inputs.pack(step.values()), training=False)
            steps.append([keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(outputs)])
    names = flat_keys(outputs)
    if not names or not all(map(SIGNATURE_NAME.fullmatch, names)):
        names = [f"output_{i}" for i in range(len(steps[0]))]
    expected = {name: np.stack(x) for name, x in zip(names, zip(*steps, strict=True), strict=True)}
    bad = [name for name, values in expected.items() if not np.isfinite(values).all()]
    if bad:
        raise ExportError(
            "Argument `model` must have finite outputs to compare a file with. "
            f"Received: model={model.name!r}, with NaN or infinity in Keras' own outputs {bad}"
        )
    return expected


def converter_process():
    """Returns a `KeptProcess` that converts models, for use in a `with` block."""
    return KeptProcess(lambda: ChildProcess(TASKS / "convert.py"))


def convert(model, inputs, output_names, tweak=None, process=None):
    """Returns the bytes of a model's float32 file with all zeros stored.

    The converter runs in a separate process because it crashes on some models.

    Args:
        model: A built `keras.Model`, on the TensorFlow backend.
        inputs: `Inputs`, which give the names, shapes and types.
        output_names: List of strings.
        tweak: The `FakeQuantization` of the model, with which the file is marked for
            `given_ranges.take_ranges`. Defaults to `None`.
        process: The process of `converter_process`. Defaults to `None`: a new one.

    Raises:
        ExportError: If the converter refuses the model, or crashes.
        OSError: If the folder of temporary files is full.
    """
    import tensorflow as tf

    def serve(tensors):
        outputs = keras.tree.flatten(model(inputs.pack(tensors), training=False))
        return dict(zip(output_names, outputs, strict=True))

    signature = [
        tf.TensorSpec(shape, dtype, name=name) for name, shape, dtype in inputs.signature()
    ]
    try:
        with contextlib.ExitStack() as stack:
            process = process or stack.enter_context(converter_process())
            # First, so that it imports TensorFlow while the model is traced here.
            process.start()
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            archive = keras.export.ExportArchive()
            with marked(model, tweak):
                archive.add_endpoint("serve", serve, [signature])
                _write(archive, folder)
            return process.call("convert", folder=folder)
    except ChildCrash as error:
        raise ExportError(
            "TFLite's converter crashed on the model. Nothing was written. "
            f"Received: model={model.name!r}. {error}"
        ) from error
    except (OSError, ExportError):
        raise
    except Exception as error:  # A model's own code may fail in any way when it is traced.
        cause = str(error) if isinstance(error, ChildError) else f"{type(error).__name__}: {error}"
        missing = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", cause)))
        raise ExportError(
            f"Argument `model` must consist of operations that TFLite has{_advice(model)}. Nothing "
            f"was written. Received: model={model.name!r}, refused by the converter for "
            f"{', '.join(missing) or cause}"
        ) from error


def _advice(model):
    """Returns advice on layers that do not compute in float32, or an empty string."""
    # Keras has no public way to walk the sublayers of an arbitrary layer.
    layers = all_layers(model)
    modes = sorted({getattr(layer, "quantization_mode", None) for layer in layers} - {None})
    if modes:
        return (
            f", and not be quantized by Keras. Some layers are quantized to {', '.join(modes)}: "
            "export the model that it was before, with an argument such as `quantize='int8'`"
        )
    dtypes = {layer.compute_dtype for layer in layers}
    others = sorted(t for t in dtypes if keras.backend.is_float_dtype(t) and t != "float32")
    if not others:
        return ""
    return (
        f", and compute in float32. Some layers compute in {', '.join(others)}: build the same "
        "model with the dtype policy 'float32' and copy the weights with `set_weights`"
    )


def _write(archive, folder):
    import tensorflow as tf

    logger = logging.getLogger("tensorflow")
    level = logger.level
    # Hides TensorFlow's message with the path of the temporary folder.
    logger.setLevel(logging.WARNING)
    try:
        archive.write_out(folder, verbose=False)
    except tf.errors.OpError as error:  # TensorFlow raises this in place of an OSError.
        raise OSError(
            f"The model cannot be saved in a temporary folder. Nothing was written. {error.message}"
        ) from error
    finally:
        logger.setLevel(level)


def _check_weights(model):
    for weight in model.weights:
        if keras.backend.is_float_dtype(weight.dtype):
            values = keras.ops.convert_to_numpy(weight).astype("float64")
            if not np.isfinite(values).all():
                raise ExportError(
                    "Argument `model` must have finite weights. Nothing was written. "
                    f"Received: model={model.name!r}, with NaN or infinity in {weight.path!r}"
                )
