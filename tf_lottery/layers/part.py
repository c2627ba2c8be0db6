"""What a sparse model consists of besides the layer that is wrapped."""

import contextlib

import keras
from keras import ops


class Part(keras.layers.Layer):
    """Something that a sparse model has and the plain model has not.

    A wrapper, `tf_lottery.layers.Masked`, holds a list of parts: one `Selection`, which decides
    what is left of the kernels, then what retraining changes for a while, then what a method
    that grows connections remembers. A part holds its own variables and says in one place what
    it does in every situation. A subclass overrides what it needs.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        kind: String, the kind of state in a `tfl.Snapshot` that the part's variables are.
        is_weight: Whether `get_weights` of the model has the part's variables.
        may_begin: Whether the part can have begun or ended since a snapshot was taken.
        changes_call: Whether `in_effect` does something.
        changes_loss: Whether `change_loss` does something.
        order: Integer, the parts with the lowest come first.

    Example:

    >>> class Confidence(tfl.layers.Part):
    ...     '''Pulls outputs away from zero.'''
    ...     changes_loss = True
    ...     def change_loss(self, loss, x, y, y_pred):
    ...         return loss - 0.01 * ops.mean(ops.abs(y_pred))
    >>> sparse.add_part(Confidence())
    >>> [part.name for part in sparse.parts]
    ['masks', 'confidence']
    """

    kind = "tweaks"
    is_weight = True
    may_begin = False
    changes_call = False
    changes_loss = False
    order = 1

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})

    def create_variables(self, kernels):
        """Creates the variables, once the kernels exist.

        Args:
            kernels: List of the variables that are pruned.
        """
        del kernels

    @property
    def undecayed(self):
        """List of the trained variables that an optimizer must not decay."""
        return []

    def replace(self, values, training):
        """Returns what takes the place of the kernels in a call, once a call.

        Args:
            values: List of tensors, one for every kernel, as the parts before made them.
            training: Whether the call is a training step, or `None`.
        """
        del training
        return values

    @contextlib.contextmanager
    def in_effect(self, layer):
        """Lets the part take effect while a layer is called.

        Args:
            layer: The wrapped `keras.Layer`.
        """
        del layer
        yield

    def change_loss(self, loss, x, y, y_pred):
        """Returns the loss of the data in a training step, changed.

        Args:
            loss: Scalar tensor.
            x: Inputs of the model.
            y: Targets.
            y_pred: Outputs of the model.
        """
        del x, y, y_pred
        return loss

    def state(self):
        """Returns the list of the variables that training changes and snapshots keep."""
        return self.variables

    def restore(self, values, kept):
        """Sets the state.

        Args:
            values: List of arrays, one for each variable of `state()`, or `None` if there is
                no such state to go back to.
            kept: List of boolean arrays, the masks of the kernels.
        """
        del kept
        for variable, value in zip(self.state(), values or (), strict=values is not None):
            variable.assign(value)

    def check_settle(self):
        """Raises a `ValueError` if no plain model can compute what the model does with the part."""

    def edits(self, layer):
        """Returns what has to be written so that a layer computes by itself as with the part.

        Args:
            layer: The wrapped `keras.Layer`.

        Returns:
            List of tuples `(object, attribute, value)`.
        """
        del layer
        return []

    def removal_edits(self, layer):
        """Returns the edits that take back `edits`, which `strip` may have written for good.

        Args:
            layer: The wrapped `keras.Layer`.
        """
        del layer
        return []


class Selection(Part):
    """The part that decides which weights are kept. A sparse model has exactly one.

    A new kind of mask learning is a selection, which overrides `create_variables`, `replace`,
    `kept` and `keep`, and perhaps a callback that acts on its variables.

    Attributes:
        kernels_can_be_assigned: Whether layers may assign their kernels in a call.
        structured: Whether the selection can follow a structured pattern.

    Example:

    >>> class KeepAll(tfl.layers.Selection):
    ...     '''Prunes nothing, for comparison.'''
    ...     def kept(self, kernels):
    ...         return [np.ones(kernel.shape, bool) for kernel in kernels]
    >>> layer = keras.layers.Dense(3)
    >>> masked = tfl.layers.Masked(layer, selection=KeepAll())
    >>> outputs = masked(np.ones((2, 4), "float32"))
    >>> [float(mask.mean()) for mask in masked.get_masks()]
    [1.0]
    """

    kind = "masks"
    order = 0
    kernels_can_be_assigned = True
    structured = True

    @property
    def is_soft(self):
        """Whether weights are neither kept nor pruned yet, and training decides."""
        return False

    def kept(self, kernels):
        """Returns the masks as a list of boolean arrays, true where a weight is kept.

        Args:
            kernels: List of the kernels, Keras variables.
        """
        raise NotImplementedError

    def keep(self, masks):
        """Decides which weights are kept.

        Args:
            masks: List of boolean arrays, one for every kernel.
        """
        raise NotImplementedError

    def settled(self, kernels):
        """Returns the kernels as the stripped model has them, as a list of arrays.

        Args:
            kernels: List of the kernels, Keras variables.
        """
        pairs = zip(kernels, self.kept(kernels), strict=True)
        return [ops.convert_to_numpy(kernel) * mask for kernel, mask in pairs]

    def commit(self):
        """Makes the decision final, after the settled values were written into the kernels."""
