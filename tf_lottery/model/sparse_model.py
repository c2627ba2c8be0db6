"""A Keras model whose kernels are pruned."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import keras
import numpy as np

from tf_lottery import _keras, hosts
from tf_lottery._typing import Tensor
from tf_lottery.layers import Gates, GrowthMemory, Masked, Part, Selection, SoftGate
from tf_lottery.layers.edits import write_edits
from tf_lottery.layers.part import AnyPart
from tf_lottery.model.kernels_by_name import KernelsByName
from tf_lottery.model.model_inside import ModelInside
from tf_lottery.model.prunable import by_reason, check_prunable_model
from tf_lottery.model.saves import RecordsSaves
from tf_lottery.model.trained_with_parts import TrainedWithParts
from tf_lottery.sparsity import patterns
from tf_lottery.sparsity.groups import Group
from tf_lottery.sparsity.patterns import Pattern


@keras.saving.register_keras_serializable("tf_lottery")
class SparseModel(KernelsByName, TrainedWithParts, RecordsSaves, ModelInside):
    """A Keras model whose kernels are masked.

    It compiles, fits, evaluates, predicts, saves and loads like any Keras model.
    `tfl.sparsify` creates one, and `tfl.strip` returns the wrapped model.

    Args:
        model: A built `keras.Model`. It is wrapped, not copied.
        include: Which weights to prune; see `tfl.sparsify`. Defaults to `None`.
        exclude: Which weights not to prune. Defaults to `None`.
        pattern: The pattern that the masks will follow, or its name; see `tfl.sparsify`.
            Defaults to `"unstructured"`.
        gate: A `SoftGate`, to learn the masks with soft gates. Defaults to `None`.
        selection: A `tf_lottery.layers.Selection`, to learn the masks in another way. Defaults
            to `None`: fixed masks, or gates if `gate` is given.
        groups: List of `tf_lottery.sparsity.groups.Group`, for the pattern `"channel"`, which
            needs them. `tfl.sparsify` finds them. Defaults to `None`.
        **kwargs: Arguments of `keras.Model`.

    Raises:
        ValueError: If `model` is not a built model or has nothing to prune.

    Example:

    >>> sparse = tfl.sparsify(model, sparsity=0.9)
    >>> sparse.compile("adam", loss)
    >>> history = sparse.fit(x, y, verbose=0)
    >>> sparse.save("sparse.keras")
    >>> keras.saving.load_model("sparse.keras").sparsity
    0.9
    """

    def __init__(
        self,
        model: keras.Model | None,
        include: Any = None,
        exclude: Any = None,
        pattern: Pattern | str = "unstructured",
        gate: SoftGate | None = None,
        selection: Selection | None = None,
        groups: Sequence[Group] | None = None,
        **kwargs: Any,
    ) -> None:
        wrapper = kwargs.pop("wrapper", None)
        if wrapper is None:
            check_prunable_model(model)
            if gate is not None and selection is not None:
                raise ValueError(
                    "Arguments `gate` and `selection` exclude each other. "
                    f"Received: gate={gate}, selection={selection!r}"
                )
            selection = selection if gate is None else Gates(gate)
            wrapper = Masked(model, include, exclude, pattern, selection, groups)
            if not groups and isinstance(wrapper.pattern, patterns.Channel):
                raise ValueError(
                    "Argument `groups` must hold at least one group of the model's channels for "
                    "the pattern 'channel'. `tfl.sparsify(model, pattern='channel')` finds them, "
                    "and `tfl.channel_groups(model)` shows what must stay and why. "
                    f"Received: groups={groups}"
                )
        own = {"dtype": "float32", "autocast": False}
        super().__init__(**{"name": f"sparse_{wrapper.layer.name}", **kwargs, **own})
        self.wrapper = wrapper
        if not wrapper.built:
            wrapper.build()
        if not wrapper.keys:
            raise ValueError(
                "Argument `model` must have at least one kernel to prune; check `include`, "
                f"`exclude` and `pattern`. Received: {wrapper.layer.name!r}, with weights that "
                f"are not pruned for these reasons: {by_reason(wrapper.skipped)}"
            )
        self.built = True

    @property
    def model(self) -> keras.Model:
        """The wrapped model."""
        return self.wrapper.layer

    @property
    def pattern(self) -> Pattern:
        """The pattern that the masks should follow."""
        return self.wrapper.pattern

    @property
    def skipped(self) -> dict[str, str]:
        """Dict from paths of weights that are not pruned to the reason."""
        return dict(self.wrapper.skipped)

    @property
    def parts(self) -> list[Part]:
        """List of the parts: the selection, tweaks of retraining, states of growth methods."""
        return list(self.wrapper.parts)

    @property
    def selection(self) -> Selection:
        """The part that decides which weights are kept; see `tf_lottery.layers.Selection`."""
        return self.wrapper.selection

    @property
    def growth(self) -> GrowthMemory | None:
        """The `GrowthMemory`, the state of a method that grows connections, or `None`."""
        return self.find_part(GrowthMemory)

    @property
    def tweaks(self) -> list[Part]:
        """List of the parts that retraining has added; see `tf_lottery.retrain`."""
        return [part for part in self.parts if part.kind == "tweaks"]

    def find_part(self, kind: type[AnyPart]) -> AnyPart | None:
        """Returns the part of a given class, or `None`.

        Args:
            kind: Subclass of `tf_lottery.layers.Part`.
        """
        return self.wrapper.find_part(kind)

    def add_part(self, part: Part) -> None:
        """Adds a part. If it has weights to train, the model must be compiled again.

        A model that contains this one must be compiled again in any case. Otherwise functions
        that Keras has compiled for it compute without the part.

        Args:
            part: A `tf_lottery.layers.Part`.
        """
        with self._changed_parts():
            self.wrapper.add_part(part)

    def remove_part(self, part: Part) -> None:
        """Removes a part, and undoes what `strip` may have written for it into the model.

        Args:
            part: One of `parts`, not the selection.

        Raises:
            ValueError: If it is the selection or no part of this model.
        """
        with self._changed_parts():
            self.wrapper.remove_part(part)
        for target, name, value in part.removal_edits(self.model):
            setattr(target, name, value)

    @contextlib.contextmanager
    def _changed_parts(self):
        before = [id(variable) for variable in self.trainable_variables]
        yield
        _keras.track_parameters(self)
        # Functions that Keras has compiled would still compute with the old parts.
        self.train_function = self.test_function = self.predict_function = None
        if self.compiled and before != [id(v) for v in self.trainable_variables]:
            # The optimizer's slots do not match the trainable weights any more.
            self.compiled = False

    @property
    def has_soft_gates(self) -> bool:
        """Whether the masks are still being learned."""
        return self.selection.is_soft

    def call(self, inputs: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Calls the wrapped model, with its own further arguments, and its effective kernels."""
        return self.wrapper(inputs, training=training, **kwargs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns the mask that belongs to the outputs, such as that of time steps, or `None`."""
        return self.wrapper.compute_mask(inputs, previous_mask)

    def effective_kernels(self) -> list[tuple[keras.Variable, Tensor]]:
        """Returns pairs of a kernel and the tensor that replaces it in a call."""
        return self.wrapper.effective_kernels()

    def call_with(
        self,
        replacements: list[tuple[keras.Variable, Tensor]],
        inputs: Any,
        training: bool | None = None,
    ) -> Any:
        """Calls the wrapped model, with active tweaks, and other values for some weights.

        Args:
            replacements: List of pairs of a weight and a tensor. If a weight occurs twice, the
                last pair is used.
            inputs: Inputs of the model.
            training: Whether the call is a training step. Defaults to `None`: inference.
        """
        return self.wrapper.call_with(replacements, inputs, training=training)

    def get_weights(self) -> list[np.ndarray]:
        """Returns the weights and masks as NumPy arrays, without the state of growth methods.

        That state exists only during some trainings. Without it, callbacks such as
        `EarlyStopping` get the same number of arrays during and after training.
        """
        return [hosts.to_numpy(weight).copy() for weight in self._own_weights()]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Sets the weights and masks.

        Args:
            weights: List of arrays, as `get_weights` returns.

        Raises:
            ValueError: If their number or shapes do not fit.
        """
        variables = self._own_weights()
        expected = [tuple(variable.shape) for variable in variables]
        received = [np.shape(weight) for weight in weights]
        if expected != received:
            raise ValueError(
                f"Argument `weights` must be {len(expected)} arrays of shapes {expected}. "
                f"Received: {len(received)} of shapes {received}"
            )
        for variable, weight in zip(variables, weights, strict=True):
            hosts.assign(variable, weight)

    def _own_weights(self):
        self.check_kernels()
        others = {id(v) for part in self.parts if not part.is_weight for v in part.variables}
        return [weight for weight in self.weights if id(weight) not in others]

    def settle(self) -> Callable[[], None]:
        """Changes the wrapped model so that it computes the same without this model's parts.

        Returns:
            Function that undoes all changes.

        Raises:
            ValueError: If no plain model can compute the same, or a layer has changed since the
                model was made sparse. Nothing is changed then.
        """
        kernels = [*self.wrapper.kernels, *self.wrapper.companions]
        settled = [*self.wrapper.settled_kernels(), *self.wrapper.get_companions()]
        before = [hosts.to_numpy(kernel).copy() for kernel in kernels]
        edits = [edit for part in self.parts for edit in part.edits(self.model)]
        if edits:
            # Functions that Keras has compiled would still compute with the old layers.
            names = ("train_function", "test_function", "predict_function")
            edits += [(self.model, name, None) for name in names]
        undo_edits = write_edits(edits)

        def write_kernels(values):
            for kernel, value in zip(kernels, values, strict=True):
                hosts.assign(kernel, value)

        def undo():
            undo_edits()
            write_kernels(before)

        write_kernels(settled)
        return undo

    @contextlib.contextmanager
    def settled(self) -> Iterator[keras.Model]:
        """Yields the plain model that `tfl.strip` would return, and then undoes all changes.

        The global random states, which creating layers changes, are restored too.

        Yields:
            The plain model. When the block ends, even by an error, kernels and layers are
            restored.

        Raises:
            ValueError: See `settle`.

        Example:

        >>> with sparse.settled() as plain:
        ...     predictions = plain.predict(x, verbose=0)
        """
        undo = self.settle()
        try:
            with _keras.kept_random_state():
                yield self.model
        finally:
            undo()

    def get_config(self) -> dict:
        """Returns the configuration, which includes that of the wrapped model."""
        return {"name": self.name, "wrapper": keras.saving.serialize_keras_object(self.wrapper)}

    @classmethod
    def from_config(cls, config: dict) -> Self:
        """Returns the model that `config` describes."""
        return cls(
            None,
            wrapper=keras.saving.deserialize_keras_object(config["wrapper"]),
            name=config["name"],
        )
