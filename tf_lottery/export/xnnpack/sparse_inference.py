"""Reports whether a network runs faster on phones and in browsers because it is sparse."""

import os
from typing import Any

import keras

from tf_lottery._strip import settled
from tf_lottery.export import flatbuffer
from tf_lottery.export.conversion import convert, keras_outputs
from tf_lottery.export.inputs import make_inputs
from tf_lottery.export.sparse_flatbuffer import pack
from tf_lottery.export.xnnpack.explain import explain
from tf_lottery.export.xnnpack.graph import read_nodes
from tf_lottery.export.xnnpack.report import SparseInferenceReport
from tf_lottery.model import SparseModel


def sparse_inference_report(
    model_or_file: str | os.PathLike | bytes | keras.Model, sample_inputs: Any = None
) -> SparseInferenceReport:
    """Reports which operators XNNPACK's sparse kernels run, why others not, and what to change.

    XNNPACK, the CPU engine of LiteRT, multiplies by sparse weights only in 1x1 convolutions on
    ARM and WebAssembly (on x86 only without AVX), and in dense layers with blocks. These
    kernels need the layout channels first. So a network must begin with a 3x3 convolution of
    strides 2 from 3 channels, padded by 1 on every side. Then it may have depthwise
    convolutions padded on all sides alike, 1x1 convolutions with more than 2/3 of their weights
    zero, additions, multiplications and activations. It must end in `GlobalAveragePooling2D`
    and `Dense`. Weights must be stored sparse, in float32, float16 or int8, and computed with
    in float: int8 arithmetic does not work.

    A network that follows these rules only in part is worse off than one that does not follow
    them at all: XNNPACK then switches a part to channels first and reads its output as channels
    last. Such a file gives wrong numbers on a phone or does not load there, although it is
    right on a PC. The report's verdict is then `"broken"`; store the weights of that network
    dense.

    Args:
        model_or_file: Path of a `.tflite` file, its bytes, or a `SparseModel` or built
            `keras.Model`, which is converted to float32 in memory and stored sparse.
        sample_inputs: Array with a few examples or a list or dict of them, for models that
            leave the shape of their inputs open. Defaults to `None`.

    Returns:
        A `SparseInferenceReport`.

    Raises:
        ValueError: If the argument is none of these or not a TFLite file.
        OSError: If the file cannot be read.
        RuntimeError: If a model has to be converted and the backend is not TensorFlow.
        ExportError: If the converter refuses the model or its weights are not finite.

    Example:

    >>> sparse_inference_report(convolutional).verdict
    'dense'

    Reference:

    - [Fast Sparse ConvNets](https://arxiv.org/abs/1911.09723)
    - XNNPACK, `xnn_subgraph_rewrite_for_nchw` in `src/subgraph.c`; LiteRT's XNNPACK
      delegate, README, "Sparse Inference"
    """
    path = model_or_file if isinstance(model_or_file, (str, os.PathLike)) else None
    content = _content(model_or_file, sample_inputs)
    model = flatbuffer.read_model(content, "model_or_file", path)
    return explain(*read_nodes(model))


def _content(model_or_file, sample_inputs):
    if isinstance(model_or_file, (str, os.PathLike, bytes, bytearray, memoryview)):
        if sample_inputs is not None:
            raise ValueError(
                "Argument `sample_inputs` must be None for a file, whose shapes are known. "
                f"Received: sample_inputs={sample_inputs!r}"
            )
        return flatbuffer.read_content(model_or_file, "model_or_file")
    plain = model_or_file.model if isinstance(model_or_file, SparseModel) else model_or_file
    if not isinstance(plain, keras.Model) or not plain.built:
        raise ValueError(
            "Argument `model_or_file` must be the path or the bytes of a TFLite file, a "
            f"`SparseModel` or a built `keras.Model`. Received: {model_or_file!r}"
        )
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "`sparse_inference_report` needs Keras on TensorFlow to convert a model, as "
            "TFLite's converter does; it reads files on any backend. "
            f"Received: keras.backend.backend()={keras.backend.backend()!r}"
        )
    with settled(model_or_file):
        return pack(_convert(plain, sample_inputs))


def _convert(model, sample_inputs):
    """Returns the bytes of a model's dense-stored float32 file."""
    inputs = make_inputs(model, sample_inputs, seed=0)
    return convert(model, inputs, list(keras_outputs(model, inputs)))
