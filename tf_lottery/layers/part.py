"""The parts that make a plain model sparse."""

import contextlib

import keras
from keras import ops


class Part(keras.layers.Layer):
    """A component that a sparse model has in addition to the plain model.

    A wrapper, `tf_lottery.layers.Masked`, holds a list of parts: first a `Selection`, which
    decides which weights are kept, then tweaks of retraining, then the state of a method that
    grows connections. A part holds its own variables. Its methods define what it does in a call,
    in the loss, in snapshots and in `tfl.strip`. A subclass overrides the methods it needs.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        kind: String, the kind of state in a `tfl.Snapshot` to which the part's variables belong.
        is_weight: Whether `get_weights` of the model includes the part's variables.
        may_begin: Whether the part may have been added or removed since a snapshot was taken.
        changes_call: Whether the part overrides `in_effect`.
        changes_loss: Whether the part overrides `change_loss`.
        order: Integer. Parts are sorted by it, the lowest first.

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
        """Creates the variables. Called when the kernels exist.

        Args:
            kernels: List of the variables that are pruned.
        """
        del kernels

    @property
    def undecayed(self):
        """List of the trained variables to exclude from weight decay."""
        return []

    def replace(self, values, training):
        """Returns the tensors that replace the kernels. Called once per call of the model.

        Args:
            values: List of tensors, one for every kernel, from the preceding part.
            training: Whether the call is a training step, or `None`.
        """
        del training
        return values

    @contextlib.contextmanager
    def in_effect(self, layer):
        """Context manager that changes what a layer computes while it is called.

        Args:
            layer: The wrapped `keras.Layer`.
        """
        del layer
        yield

    def change_loss(self, loss, x, y, y_pred):
        """Returns the loss that the part makes of the data loss, in a training step.

        Args:
            loss: Scalar tensor, without losses that layers add.
            x: Inputs of the model.
            y: Targets.
            y_pred: Outputs of the model.
        """
        del x, y, y_pred
        return loss

    def state(self):
        """Returns the list of the variables that training changes and snapshots save."""
        return self.variables

    def restore(self, values, kept):
        """Sets the state.

        Args:
            values: List of arrays, one for each variable of `state()`. `None` if the snapshot
                has no state of this part.
            kept: List of boolean arrays, the masks of the kernels.
        """
        del kept
        for variable, value in zip(self.state(), values or (), strict=values is not None):
            variable.assign(value)

    def check_settle(self):
        """Raises a `ValueError` if no plain model can compute the same as with the part."""

    def edits(self, layer):
        """Returns attribute changes that make the plain layer compute the same as with the part.

        Args:
            layer: The wrapped `keras.Layer`.

        Returns:
            List of tuples `(object, attribute, value)`.
        """
        del layer
        return []

    def removal_edits(self, layer):
        """Returns attribute changes that undo `edits`, which `strip` may have made permanent.

        Args:
            layer: The wrapped `keras.Layer`.
        """
        del layer
        return []


class Selection(Part):
    """The part that decides which weights are kept. A sparse model has exactly one.

    To add a new way of mask learning, write a selection that overrides `create_variables`,
    `replace`, `kept` and `keep`, and, if needed, a callback that changes its variables.

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
        """Whether training still decides which weights are kept."""
        return False

    def kept(self, kernels):
        """Returns the masks as a list of boolean arrays, true where a weight is kept.

        Args:
            kernels: List of the kernels, Keras variables.
        """
        raise NotImplementedError

    def keep(self, masks):
        """Sets which weights are kept.

        Args:
            masks: List of boolean arrays, one for every kernel.
        """
        raise NotImplementedError

    def settled(self, kernels):
        """Returns the kernels of the stripped model, as a list of arrays.

        Args:
            kernels: List of the kernels, Keras variables.
        """
        pairs = zip(kernels, self.kept(kernels), strict=True)
        return [ops.convert_to_numpy(kernel) * mask for kernel, mask in pairs]

    def commit(self):
        """Makes the masks final. Called after the settled values were written into the kernels."""
