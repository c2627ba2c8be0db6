"""What all tweaks of retraining have in common."""

import contextlib

import keras


class Tweak(keras.layers.Layer):
    """A change of how a sparse model trains, which can be taken away again.

    `SparseModel.masked` holds the tweaks of a model, which are saved and loaded with it. The
    wrapped model is not changed: a tweak takes effect while the wrapper calls it.

    A subclass overrides what it changes.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    # Whether the tweak changes the forward pass, and whether it changes the loss.
    changes_call = True
    changes_loss = False

    @property
    def state(self):
        """List of the variables that training changes."""
        return self.variables

    @contextlib.contextmanager
    def in_effect(self, layer):
        """Lets the tweak take effect while `layer` is called.

        Args:
            layer: The wrapped `keras.Layer`.
        """
        del layer
        yield

    def change_loss(self, loss, x, y_pred):
        """Returns the loss of the data during a training step, changed.

        Args:
            loss: Scalar tensor.
            x: Inputs of the model.
            y_pred: Outputs of the model.
        """
        del x, y_pred
        return loss

    def check_over(self):
        """Raises a `ValueError` if no model can compute by itself what it does with the tweak."""

    def settle(self, layer):
        """Makes a layer compute by itself what it computes with the tweak.

        Args:
            layer: The wrapped `keras.Layer`.
        """

    def leave(self, layer):
        """Undoes what `settle` did, before the tweak is taken away.

        Args:
            layer: The wrapped `keras.Layer`.
        """


def all_layers(layer):
    """Returns the list of a layer and all layers inside it, at any depth, in a fixed order.

    Args:
        layer: A built `keras.Layer`.
    """
    # Keras has no public way to walk the sublayers of an arbitrary layer.
    return list(layer._flatten_layers())
