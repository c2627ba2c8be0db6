"""The structure, shapes and data types of a model's inputs."""

import keras
import numpy as np


def model_inputs(layer, examples=None):
    """Returns the inputs of a layer or model as symbolic tensors, in their structure.

    Functional and sequential models declare their inputs. Other layers only know the shapes that
    they were built with, not the data types.

    Args:
        layer: A built `keras.Layer` or model.
        examples: Nested arrays with a batch axis. Their shapes and data types are used if the
            layer does not declare its inputs. Defaults to `None`.

    Returns:
        A `keras.KerasTensor` or a structure of them, or `None` if nothing is known. Variable
        sizes, such as that of the batch, are `None`.

    Example:

    >>> model_inputs(model).shape
    (None, 8)
    """
    declared = _declared_inputs(layer)
    if declared is not None:
        return declared
    if examples is not None:
        return inputs_like(examples)
    shapes = (layer.get_build_config() or {}).get("input_shape")
    return None if shapes is None else _tensors(shapes, lambda shape: (None, *shape[1:]))


def inputs_like(examples):
    """Returns symbolic tensors for arrays like these, with a variable batch size.

    Args:
        examples: Nested arrays with a batch axis. Floating point arrays get Keras' default
            type, to which layers cast them.
    """

    def tensor(array):
        array = np.asarray(array)
        dtype = keras.config.floatx() if array.dtype.kind == "f" else array.dtype.name
        return keras.KerasTensor((None, *array.shape[1:]), dtype)

    return keras.tree.map_structure(tensor, examples)


def symbolic_inputs(layer, input_shape=None):
    """Returns symbolic tensors with which a layer or model can be called.

    Args:
        layer: A built `keras.Layer` or model.
        input_shape: Tuple, the shape of one example without the batch, or a list or dict
            of tuples for several inputs. Defaults to `None`: the shape that the layer was
            built with.

    Returns:
        A `keras.KerasTensor` or a structure of them. The batch size is one unless the model has
        a fixed batch size.

    Raises:
        ValueError: If the shape of an example is not known.

    Example:

    >>> symbolic_inputs(model).shape
    (1, 8)
    """
    if input_shape is None:
        tensors = model_inputs(layer)
    else:
        tensors, declared = _tensors(input_shape, lambda s: (1, *s)), _declared_inputs(layer)
        tensors = tensors if declared is None else _fit(tensors, declared, input_shape)
    leaves = [] if tensors is None else keras.tree.flatten(tensors)
    if not leaves or any(size is None for tensor in leaves for size in tensor.shape[1:]):
        raise ValueError(
            "Argument `input_shape` must give the shape of one example, without the batch, since "
            f"the model has no fixed input shape. Received: input_shape={input_shape}, "
            f"model={layer.name!r} with inputs {[tensor.shape for tensor in leaves]}"
        )
    return keras.tree.map_structure(_with_batch, tensors)


def _declared_inputs(layer):
    """Returns the symbolic inputs that functional and sequential models have, or `None`."""
    inputs = getattr(layer, "inputs", None)
    if not inputs or not isinstance(keras.tree.flatten(inputs)[0], keras.KerasTensor):
        return None
    # `input` of a functional model has the original structure of its inputs. `input` of a
    # sequential model is the tensor of its last call.
    return inputs[0] if isinstance(layer, keras.Sequential) else layer.input


def _tensors(shapes, function):
    """Returns symbolic tensors of shape `function(shape)`, in the structure of `shapes`."""
    floatx = keras.config.floatx()
    return keras.tree.map_shape_structure(
        lambda shape: keras.KerasTensor(function(tuple(shape)), floatx), shapes
    )


def _fit(tensors, declared, input_shape):
    """Returns the declared inputs with the shapes of `tensors`."""
    leaves, expected = keras.tree.flatten(tensors), keras.tree.flatten(declared)
    same_kind = isinstance(tensors, dict) == isinstance(declared, dict)
    if len(leaves) != len(expected) or not (same_kind or len(leaves) == 1):
        raise ValueError(
            "Argument `input_shape` must have a shape for every input, in the structure of the "
            f"model's inputs. Received: input_shape={input_shape}, inputs={declared}"
        )
    fitted = [
        _reshaped(tensor, (tensor.shape[0], *leaf.shape[1:]))
        for leaf, tensor in zip(leaves, expected, strict=True)
    ]
    return keras.tree.pack_sequence_as(declared, fitted)


def _with_batch(tensor):
    batch = 1 if tensor.shape[0] is None else tensor.shape[0]
    return _reshaped(tensor, (batch, *tensor.shape[1:]))


def _reshaped(tensor, shape):
    return keras.KerasTensor(shape, tensor.dtype, sparse=tensor.sparse)
