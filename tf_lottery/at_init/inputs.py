"""The input of methods that need no data, in the shapes that a model takes."""

import keras
from keras import ops

from tf_lottery.layers.inputs import inputs_like, model_inputs


def ones(model, inputs=None):
    """Returns one example of ones, nested as the model takes it.

    Args:
        model: A built `keras.Model`.
        inputs: Nested arrays with a batch axis, of the same shapes and data types. Defaults to
            `None`: those that the model was built with.

    Returns:
        Nested tensors with a batch axis of size 1.

    Raises:
        ValueError: If the model does not know the shapes of its inputs.
    """
    tensors = model_inputs(model) if inputs is None else inputs_like(inputs)
    shapes = [] if tensors is None else [tensor.shape for tensor in keras.tree.flatten(tensors)]
    if not shapes or any(None in shape[1:] for shape in shapes):
        raise ValueError(
            "Argument `inputs` must be given, with a batch axis, for a model whose inputs have "
            f"no fixed shape. Received: model {model.name!r} with inputs of shapes {shapes}"
        )
    return keras.tree.map_structure(
        lambda tensor: ops.ones((1, *tensor.shape[1:]), tensor.dtype), tensors
    )
