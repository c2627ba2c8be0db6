"""Checks whether the outputs of a model are logits."""

import keras

_PROBABILITIES = (keras.activations.softmax, keras.activations.sigmoid)


def check_from_logits(model, from_logits):
    """Raises a `ValueError` if outputs that should be logits are clearly probabilities.

    Args:
        model: A `keras.Model`.
        from_logits: Boolean, whether the user declares the outputs as logits.
    """
    names = getattr(model, "output_names", None) or ()
    heads = [layer for layer in model.layers if layer.name in names] or model.layers[-1:]
    for head in heads if from_logits else ():
        activation = getattr(head, "activation", None)
        if activation in _PROBABILITIES or isinstance(head, keras.layers.Softmax):
            raise ValueError(
                "Argument `from_logits` must be `False` for outputs that are probabilities. "
                f"Received: from_logits={from_logits}, and {head.name!r} ends with a "
                f"{getattr(activation, '__name__', 'softmax')}"
            )
