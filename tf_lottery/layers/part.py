"""The parts that make a plain model sparse."""

import contextlib
from collections.abc import Iterator
from typing import Any, TypeVar

import keras
import numpy as np

from tf_lottery import hosts
from tf_lottery._typing import Tensor

AnyPart = TypeVar("AnyPart", bound="Part")


class Part(keras.layers.Layer):
    """A component that a sparse model has in addition to the plain model.

    A wrapper, `tf_lottery.layers.Masked`, holds a list of parts: first a `Selection`, which
    decides which weights are kept, then tweaks of retraining, then the state of a method that
    grows connections. A part holds its own variables. Its methods define what it does in a call,
    in the loss, in snapshots and in `tfl.strip`. A subclass overrides the methods it needs.

    Keras saves and loads a part with its model, and snapshots keep its variables. For that a
    subclass has to be registered by `keras.saving.register_keras_serializable`, and needs a
    `get_config` if its constructor has arguments of its own.

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

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})

    def create_variables(self, kernels: list[keras.Variable]) -> None:
        """Creates the variables. Called once, when the kernels exist. Defaults to none.

        Args:
            kernels: List of the variables that are pruned. Do not keep it in an attribute: Keras
                would count the kernels as variables of the part.
        """
        del kernels

    @property
    def undecayed(self) -> list[keras.Variable]:
        """List of the trained variables to exclude from weight decay."""
        return []

    def own_optimizers(self) -> dict[str, keras.optimizers.Optimizer]:
        """Returns new optimizers for trained variables of the part, if the model's should not.

        `compile` puts them and the optimizer of the model into a `keras.optimizers.MultiOptimizer`.

        Returns:
            Dict of regular expressions, which have to match the whole path of a variable also
            after loading, to Keras optimizers. Defaults to an empty dict.
        """
        return {}

    def replace(self, values: list[Tensor], training: bool | None) -> list[Tensor]:
        """Returns the tensors that replace the kernels. Called once per call of the model.

        By default these are `values`.

        Args:
            values: List of tensors, one for every kernel, from the preceding part.
            training: Whether the call is a training step, or `None`.
        """
        del training
        return values

    @contextlib.contextmanager
    def in_effect(self, layer: keras.Layer) -> Iterator[None]:
        """Context manager that changes what a layer computes while it is called.

        Args:
            layer: The wrapped `keras.Layer`.
        """
        del layer
        yield

    def change_loss(self, loss: Tensor, x: Any, y: Any, y_pred: Any) -> Tensor:
        """Returns the loss that the part makes of the data loss, in a training step.

        Args:
            loss: Scalar tensor, without losses that layers add.
            x: Inputs of the model.
            y: Targets.
            y_pred: Outputs of the model.
        """
        del x, y, y_pred
        return loss

    def state(self) -> list[keras.Variable]:
        """Returns the list of the variables that snapshots save. By default these are all."""
        return self.variables

    def restore(self, values: list[np.ndarray] | None, kept: list[np.ndarray]) -> None:
        """Sets the state. By default without `values`, it stays as it is.

        Args:
            values: List of arrays, one for each variable of `state()`. `None` if the snapshot
                has no state of this part.
            kept: List of boolean arrays, the masks of the kernels.
        """
        del kept
        for variable, value in zip(self.state(), values or (), strict=values is not None):
            hosts.assign(variable, value)

    def check_settle(self) -> None:
        """Raises a `ValueError` if no plain model can compute the same as with the part."""

    def edits(self, layer: keras.Layer) -> list[tuple[Any, str, Any]]:
        """Returns attribute changes that make the plain layer compute the same as with the part.

        Args:
            layer: The wrapped `keras.Layer`.

        Returns:
            List of tuples `(object, attribute, value)`.
        """
        del layer
        return []

    def removal_edits(self, layer: keras.Layer) -> list[tuple[Any, str, Any]]:
        """Returns attribute changes that undo `edits`, which `strip` may have made permanent.

        Args:
            layer: The wrapped `keras.Layer`.
        """
        del layer
        return []


class Selection(Part):
    """The part that decides which weights are kept. A sparse model has exactly one.

    A new way of mask learning is a selection, passed to `tfl.sparsify(model, selection=...)`, and
    perhaps a callback that changes its variables.

    - If `replace` multiplies the kernels by the masks and does nothing else, override
      `create_variables`, `replace`, `kept` and `keep`.
    - If `replace` also changes weights that are kept, or training decides about the masks,
      override `is_soft`, `settled` and `commit` too, and set `kernels_can_be_assigned = False`.
      After `commit`, `replace` must return the settled kernels unchanged. Once `is_soft` is
      `False`, other callbacks may change the masks; keep them, and whether they are final, in
      variables, which are saved.

    In `replace`, read a variable by its `value`, which JAX needs. A straight-through gradient is
    `hard + (score - ops.stop_gradient(score))`, whose value is exactly `hard`. Weights of the
    selection that must not decay are returned by `undecayed`. Callbacks that grow connections work
    with `Masks` only.

    Attributes:
        kernels_can_be_assigned: Whether layers may assign their kernels in a call, as spectral
            normalization does. Set it to `False` if `replace` changes weights that are kept.
            Regularizers then get the stored kernels, otherwise those with zeros.
        structured: Whether the masks follow `model.pattern`. Defaults to `False`: structured
            patterns are refused.

    Example:

    >>> @keras.saving.register_keras_serializable("mine")
    ... class Threshold(tfl.layers.Selection):
    ...     '''Keeps weights above a threshold, which a callback may raise.'''
    ...     kernels_can_be_assigned = False
    ...     def create_variables(self, kernels):
    ...         self.threshold = self.add_weight(shape=(), initializer="zeros", trainable=False)
    ...         self.is_final = self.add_weight(shape=(), initializer="zeros", trainable=False)
    ...     @property
    ...     def is_soft(self):
    ...         return not float(self.is_final)
    ...     def replace(self, values, training):
    ...         above = [ops.abs(value) > self.threshold.value for value in values]
    ...         return [ops.where(keep, v, 0.0) for keep, v in zip(above, values)]
    ...     def kept(self, kernels):
    ...         threshold = ops.convert_to_numpy(self.threshold)
    ...         return [np.abs(ops.convert_to_numpy(k)) > threshold for k in kernels]
    ...     def commit(self, kernels):
    ...         self.threshold.assign(0.0)
    ...         self.is_final.assign(1.0)
    >>> learned = tfl.sparsify(model, selection=Threshold())
    >>> before = learned.sparsity
    >>> _ = learned.selection.threshold.assign(0.4)
    >>> learned.sparsity > before
    True
    """

    kind = "masks"
    order = 0
    kernels_can_be_assigned = True
    structured = False

    @property
    def is_soft(self) -> bool:
        """Whether training still decides which weights are kept. Defaults to `False`.

        While it is true, callbacks that set masks, and `tfl.prune`, are refused.
        """
        return False

    def kept(self, kernels: list[keras.Variable]) -> list[np.ndarray]:
        """Returns the masks as a list of boolean arrays, true where a weight is kept.

        Args:
            kernels: List of the kernels, Keras variables.
        """
        raise NotImplementedError(f"{type(self).__name__} must override `kept`.")

    def keep(self, masks: list[np.ndarray]) -> None:
        """Sets which weights are kept, also while the selection is soft.

        Afterwards `kept` must return exactly these masks. `commit` follows.

        Args:
            masks: List of boolean arrays, one for every kernel.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must override `keep`, so that masks can be set."
        )

    def settled(self, kernels: list[keras.Variable]) -> list[np.ndarray]:
        """Returns the kernels of the stripped model, as a list of arrays.

        By default these are the kernels times the masks. The method changes nothing: it is also
        called when training goes on afterwards.

        Args:
            kernels: List of the kernels, Keras variables.
        """
        # Not a product: pruned weights that are not finite must become zero too.
        return [
            np.where(mask, array, np.zeros((), array.dtype))
            for mask, array in zip(self.kept(kernels), map(hosts.to_numpy, kernels), strict=True)
        ]

    def commit(self, kernels: list[keras.Variable]) -> None:
        """Makes the masks final. Defaults to nothing.

        Called by `strip` and `apply_masks`, after the settled values were written into the kernels.

        Args:
            kernels: List of the kernels, Keras variables.
        """
