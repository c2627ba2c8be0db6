"""How the experiments compile a classifier."""

import keras

from tf_lottery.model import SparseModel


def compile_classifier(model, optimizer, loss=None):
    """Compiles a network for integer labels.

    Args:
        model: A `keras.Model` whose outputs are logits; or a `SparseModel` of a compiled one of
            `own_network.load_network`, whose loss and metrics are then used.
        optimizer: Keras optimizer.
        loss: Keras loss. Defaults to `None`: that of the compiled model, or the cross-entropy, for
            text its mean over the characters.

    Returns:
        The model.
    """
    own = own_loss(model)
    metrics = ["accuracy"]
    if own is not None:
        # New ones: the state of a metric belongs to one model.
        metrics = keras.saving.deserialize_keras_object(model.model.get_compile_config()["metrics"])
    model.compile(
        optimizer,
        loss or own or keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=metrics,
        # On TensorFlow XLA makes convolutions on a CPU slower.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )
    return model


def own_loss(model):
    """Returns the loss of the compiled model in a sparse one, `None` if it is not compiled.

    Args:
        model: A `keras.Model`.
    """
    return getattr(model.model, "loss", None) if isinstance(model, SparseModel) else None
