"""Private parts of Keras' models."""


def track_parameters(model):
    """Registers variables that were added to a model after it was built, on PyTorch.

    Reason: before every step, Keras clears only the gradients of registered variables. The
    gradients of others would add up from step to step.

    Args:
        model: A built `keras.Model`.
    """
    if hasattr(model, "_torch_params"):
        model._track_variables()


def scaled_for_replicas(model, loss):
    """Returns a loss that layers added, scaled as Keras' `compute_loss` scales it.

    Reason: on TensorFlow, Keras divides it by the number of replicas in a private method.

    Args:
        model: A `keras.Model`.
        loss: Scalar tensor.
    """
    return model._aggregate_additional_loss(loss)


def set_first_epoch(model, epoch):
    """Sets the first epoch of a `fit` that has just begun.

    Reason: there is no public way; Keras' own `BackupAndRestore` does the same.

    Args:
        model: A `keras.Model`.
        epoch: Integer, or `None` for the `initial_epoch` of `fit`.
    """
    model._initial_epoch = epoch


def first_epoch(model):
    """Returns the epoch that `set_first_epoch` or Keras' own callbacks set, or `None`.

    Reason: there is no public way.

    Args:
        model: A `keras.Model`.
    """
    return getattr(model, "_initial_epoch", None)
