"""The properties and methods that a sparse model forwards to the model inside it."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import keras

from tf_lottery.layers.inputs import model_inputs


class ModelInside(keras.Model):
    """A Keras model around another one. It has the inputs, outputs and layers of that model.

    A subclass defines `model`, the model inside, and `settled()`.
    """

    @property
    def model(self) -> keras.Model:
        """The model inside."""
        raise NotImplementedError

    @contextlib.contextmanager
    def settled(self) -> Iterator[keras.Model]:
        """Yields the model inside, temporarily changed to compute the same as this model."""
        raise NotImplementedError
        yield

    @property
    def output_names(self) -> list[str] | None:
        """Names of the model's outputs, which can be keys of losses and metrics."""
        return getattr(self.model, "output_names", None)

    @property
    def inputs(self) -> list[keras.KerasTensor]:
        """Symbolic inputs of the model inside."""
        return self.model.inputs

    @property
    def outputs(self) -> list[keras.KerasTensor]:
        """Symbolic outputs of the model inside."""
        return self.model.outputs

    @property
    def input(self) -> Any:
        """Symbolic input of the model inside, or a structure of them."""
        if not hasattr(self.model, "inputs"):
            return super().input
        # `input` of a sequential model is the tensor of its last call.
        return self.inputs[0] if isinstance(self.model, keras.Sequential) else self.model.input

    @property
    def output(self) -> Any:
        """Symbolic output of the model inside, or a structure of them."""
        # A subclassed model has no graph. Keras reads `output` when it is called in another graph.
        if not hasattr(self.model, "outputs"):
            return super().output
        return self.outputs[0] if isinstance(self.model, keras.Sequential) else self.model.output

    @property
    def input_shape(self) -> Any:
        """Shape of the input with the batch axis, or a structure of shapes."""
        return self.model.input_shape

    @property
    def output_shape(self) -> Any:
        """Shape of the output with the batch axis, or a structure of shapes."""
        return self.model.output_shape

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the output for a shape of the input, both with the batch axis.

        Args:
            input_shape: Tuple, or a structure of tuples.
        """
        return self.model.compute_output_shape(input_shape)

    def compute_output_spec(self, inputs: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Returns the symbolic output for a symbolic input.

        Args:
            inputs: `keras.KerasTensor`, or a structure of them.
            training: Whether it is a training step. Defaults to `None`.
            **kwargs: Further arguments of the model inside, such as `mask`.
        """
        del training
        return self.model.compute_output_spec(inputs, **kwargs)

    def get_layer(self, name: str | None = None, index: int | None = None) -> keras.Layer:
        """Returns a layer of the model inside.

        Args:
            name: String, its name. Defaults to `None`.
            index: Integer, its position instead. Defaults to `None`.
        """
        return self.model.get_layer(name, index)

    def count_params(self) -> int:
        """Returns the number of weights of the model inside, zeros included."""
        return self.model.count_params()

    def summary(self, *args: Any, **kwargs: Any) -> None:
        """Prints the layers of the model inside. `tfl.summary` prints the sparsity too.

        Args:
            *args: Arguments of `keras.Model.summary`.
            **kwargs: Arguments of `keras.Model.summary`.
        """
        self.model.summary(*args, **kwargs)

    def export(
        self, filepath: str | os.PathLike, format: str = "tf_saved_model", **kwargs: Any
    ) -> None:
        """Exports the plain model with its zeros, for inference. This model does not change.

        Args:
            filepath: String or path to write to.
            format: String, such as `"onnx"` or `"openvino"`, which store the zeros as numbers; see
                `keras.Model.export`. Defaults to `"tf_saved_model"`.
            **kwargs: Other arguments of `keras.Model.export`.
        """
        with self.settled() as plain:
            if format == "onnx" and kwargs.get("input_signature") is None:
                kwargs["input_signature"] = _input_signature(plain)
            # Some of Keras' formats take no other paths than strings.
            plain.export(os.fspath(filepath), format=format, **kwargs)

    def quantize(self, mode: str | None = None, *args: Any, **kwargs: Any) -> None:
        """Raises a `ValueError`, since masks do not apply to quantized weights."""
        del args, kwargs
        raise ValueError(
            "A sparse model cannot be quantized with its masks. Strip it first, and quantize the "
            "plain model, whose zeros stay zeros: `tfl.strip(model).quantize(...)`. "
            f"Received: mode={mode!r}"
        )

    def save_spec(self, dynamic_batch: bool = True) -> None:
        """Raises a `ValueError`: only `tf.lite.TFLiteConverter.from_keras_model` asks for it.

        Of Keras 3 it converts Sequential and functional models; for others it fails with an error
        that does not name the cause.
        """
        del dynamic_batch
        raise ValueError(
            "`tf.lite.TFLiteConverter` cannot convert a sparse model. Give it the plain model, "
            "`tfl.strip(model)`, whose zeros it stores; or write the file without them by "
            f"`tfl.export_tflite(model, path)`. Received: model={self.name!r}"
        )


def _input_signature(model):
    """Returns the signature that Keras' export to ONNX makes only for models that were called."""
    structure = model_inputs(model)
    if structure is None:
        return None
    return [
        keras.tree.map_structure(
            lambda x: keras.InputSpec(dtype=x.dtype, shape=(None, *x.shape[1:]), name=x.name),
            structure,
        )
    ]
