"""The inputs of data-free scores, in the shapes that a model takes."""

import keras
from keras import ops


def ones(model, inputs=None):
    """Returns one example that consists of ones, nested as the model takes it.

    Args:
        model: A built `keras.Model`.
        inputs: Nested arrays with a batch axis, whose shapes and data types are taken.
            Defaults to `None`: those that the model was built with.

    Returns:
        Nested tensors with a batch axis of size 1.

    Raises:
        ValueError: If the model does not know the shapes of its inputs.
    """
    if inputs is not None:
        specs = keras.tree.map_structure(ops.convert_to_tensor, inputs)
    elif getattr(model, "inputs", None):
        specs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    else:
        shapes = (model.get_build_config() or {}).get("input_shape", ())
        specs = keras.tree.map_shape_structure(keras.KerasTensor, shapes)
    shapes = [tuple(spec.shape) for spec in keras.tree.flatten(specs)]
    if any(not shape or None in shape[1:] for shape in shapes):
        raise ValueError(
            "Argument `inputs` must be given, with a batch axis, for a model whose inputs have "
            f"no fixed shape. Received: model {model.name!r} with inputs of shapes {shapes}"
        )
    return keras.tree.map_structure(
        lambda spec: ops.ones((1, *spec.shape[1:]), keras.backend.standardize_dtype(spec.dtype)),
        specs,
    )
