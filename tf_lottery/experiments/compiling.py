"""How the experiments compile a classifier."""

import keras


def compile_classifier(model, optimizer, loss=None):
    """Compiles a network for integer labels.

    Args:
        model: A `keras.Model` whose outputs are logits.
        optimizer: Keras optimizer.
        loss: Keras loss. Defaults to `None`: the cross-entropy, for text its mean over the
            characters.

    Returns:
        The model.
    """
    model.compile(
        optimizer,
        loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        # On TensorFlow XLA makes convolutions on a CPU slower.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )
    return model
