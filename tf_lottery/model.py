"""The sparse model, and how to get the model inside it back."""

import warnings

import keras
import numpy as np
from keras import ops

from tf_lottery import optimizers
from tf_lottery.layers import Gated, Masked, matrix_shapes
from tf_lottery.sparsity import masks as mask_ops


@keras.saving.register_keras_serializable("tf_lottery")
class SparseModel(keras.Model):
    """A Keras model whose kernels are masked.

    It compiles, fits, evaluates, predicts, saves and loads as any Keras model.
    `tfl.sparsify` makes one, `tfl.strip` gives the wrapped model back.

    Args:
        model: A built `keras.Model`, wrapped and not copied.
        include: Which weights to prune; see `tfl.sparsify`. Defaults to `None`.
        exclude: Which weights not to prune. Defaults to `None`.
        pattern: The pattern that the masks are going to follow, or its name; see
            `tfl.sparsify`. Defaults to `"unstructured"`.
        gate: A `SoftGate`, for a model whose masks are learned. Defaults to `None`.
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
        self, model, include=None, exclude=None, pattern="unstructured", gate=None, **kwargs
    ):
        wrapper = kwargs.pop("masked", None)
        if wrapper is None:
            _check_prunable_model(model)
            rules = {"include": include, "exclude": exclude, "pattern": pattern}
            wrapper = Masked(model, **rules) if gate is None else Gated(model, gate, **rules)
        super().__init__(**{"name": f"sparse_{wrapper.layer.name}", **kwargs, "dtype": "float32"})
        self.masked = wrapper
        if not wrapper.built:
            wrapper.build()
        if not self.masked.kernels:
            raise ValueError(
                "Argument `model` must have at least one kernel to prune; check `include`, "
                f"`exclude` and `pattern`. Received: {wrapper.layer.name!r}, "
                f"skipped: {wrapper.skipped}"
            )
        self.built = True

    @property
    def model(self):
        """The wrapped model."""
        return self.masked.layer

    @property
    def pattern(self):
        """The pattern that the masks are meant to follow."""
        return self.masked.pattern

    @property
    def output_names(self):
        """Names of the wrapped model's outputs, by which losses and metrics can be given."""
        return getattr(self.model, "output_names", None)

    @property
    def kernels(self):
        """Dict of paths to the variables that have a mask."""
        return dict(zip(self.masked.paths, self.masked.kernels, strict=True))

    @property
    def matrix_shapes(self):
        """Dict of kernel paths to (inputs, outputs); `None` for kernels that are no matrix.

        See `tf_lottery.layers.matrix_shapes`.
        """
        shapes = matrix_shapes(self.model, self.masked.kernels)
        return dict(zip(self.masked.paths, shapes, strict=True))

    @property
    def density(self):
        """The fraction of weights the masks keep, over all kernels."""
        return mask_ops.density(self.get_masks())

    @property
    def sparsity(self):
        """The fraction of weights the masks prune, over all kernels."""
        return 1.0 - self.density

    @property
    def has_soft_gates(self):
        """Whether the masks are being learned; see `tf_lottery.layers.Gated`."""
        return isinstance(self.masked, Gated) and self.masked.is_soft

    def compile(self, optimizer="rmsprop", *args, **kwargs):
        """Compiles as any Keras model; gates are left out of weight decay.

        Call the optimizer's `exclude_from_weight_decay` before, since it replaces the list.
        """
        super().compile(optimizer, *args, **kwargs)
        if isinstance(self.masked, Gated) and self.optimizer is not None:
            optimizers.exclude_from_weight_decay(self.optimizer, self.masked.gates)

    def compile_from_config(self, config):
        """Compiles as `config` describes; Keras leaves it to models with their own `compile`."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def call(self, inputs, training=None):
        """Calls the wrapped model with its kernels masked."""
        return self.masked(inputs, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Computes the loss as any Keras model, changed by tweaks of retraining."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        tweaks = [tweak for tweak in self.masked.tweaks if tweak.changes_loss]
        if not training or not tweaks:
            return loss
        # What layers add, as regularizers do, stays as it is. Only the backend knows its scale.
        added = sum(self._aggregate_additional_loss(added) for added in self.losses)
        of_data = loss - added
        for tweak in tweaks:
            of_data = tweak.change_loss(of_data, x, y_pred)
        return of_data + added

    def get_weights(self):
        """Returns the weights and masks as NumPy arrays, without what methods remember.

        Callbacks that keep weights, such as `EarlyStopping`, find as many after training as
        during it.
        """
        return [ops.convert_to_numpy(weight).copy() for weight in self._own_weights()]

    def set_weights(self, weights):
        """Sets what `get_weights` returned.

        Args:
            weights: List of arrays.

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
            variable.assign(weight)

    def _own_weights(self):
        growth = self.masked.growth
        remembered = {id(v) for v in growth.variables} if growth is not None else set()
        return [weight for weight in self.weights if id(weight) not in remembered]

    def get_masks(self):
        """Returns a dict of kernel paths to boolean arrays, True meaning kept."""
        return dict(zip(self.masked.paths, self.masked.get_masks(), strict=True))

    def to_matrices(self, arrays):
        """Reshapes arrays of kernels to (inputs, outputs), as patterns see them.

        Args:
            arrays: Dict of kernel paths to NumPy arrays in the shapes of the kernels.

        Returns:
            Dict of the same paths to matrices. Kernels that are no such matrix, to which no
            structured pattern applies, keep their shapes.

        Example:

        >>> matrices = convolutional.to_matrices(convolutional.get_kernels())
        >>> matrices["small/stem/kernel"].shape
        (27, 4)
        """
        shapes = self.matrix_shapes
        return {path: array.reshape(shapes[path] or array.shape) for path, array in arrays.items()}

    def from_matrices(self, arrays):
        """Reshapes matrices as `to_matrices` makes them to the shapes of the kernels.

        Args:
            arrays: Dict of kernel paths to NumPy arrays.

        Returns:
            Dict of the same paths to arrays, as `set_masks` expects them.
        """
        kernels = self.kernels
        return {path: array.reshape(kernels[path].shape) for path, array in arrays.items()}

    def set_masks(self, masks):
        """Sets masks and writes zeros into the pruned positions of the kernels.

        Args:
            masks: Dict of kernel paths to boolean arrays; kernels it leaves out keep
                their masks.

        Raises:
            ValueError: If a path is unknown or an array is not boolean or does not fit;
                then no mask is changed.
        """
        before = self.get_masks()
        masks = {path: np.asarray(mask) for path, mask in masks.items()}
        for path, mask in masks.items():
            if path not in before:
                raise ValueError(
                    "Argument `masks` must have paths of the model's kernels, "
                    f"{sorted(before)}. Received: {path!r}"
                )
            mask_ops.check_mask(f"masks[{path!r}]", mask, before[path].shape)
        self.masked.set_masks(list({**before, **masks}.values()))

    def get_kernels(self):
        """Returns a dict of kernel paths to the effective values, `kernel * mask`."""
        return dict(zip(self.masked.paths, self.masked.get_kernels(), strict=True))

    def summary(self, print_fn=None):
        """Prints the sparsity of every kernel.

        Args:
            print_fn: Function that takes the text. Defaults to `print`.
        """
        # Analysis stands on the sparse model, which needs it for this alone.
        from tf_lottery.analysis import report

        (print_fn or print)(str(report.summary(self)))

    def get_config(self):
        """Returns the configuration, the wrapped model's included."""
        return {"name": self.name, "masked": keras.saving.serialize_keras_object(self.masked)}

    @classmethod
    def from_config(cls, config):
        """Returns the model that `config` describes."""
        return cls(
            None,
            masked=keras.saving.deserialize_keras_object(config["masked"]),
            name=config["name"],
        )


def check_sparse_model(model, name="model"):
    """Returns `model`, or raises a `ValueError` if it is not a `SparseModel`.

    Args:
        model: The object to check.
        name: String, the argument's name for the message. Defaults to `"model"`.
    """
    if not isinstance(model, SparseModel):
        raise ValueError(
            f"Argument `{name}` must be a `SparseModel`, made by `tfl.sparsify(model)`. "
            f"Received: {model!r}"
        )
    return model


def check_settled(model, name="model"):
    """Returns a `SparseModel`, or raises a `ValueError` if soft gates decide about its masks.

    Args:
        model: The object to check.
        name: String, the argument's name for the message. Defaults to `"model"`.
    """
    if check_sparse_model(model, name).has_soft_gates:
        raise ValueError(
            f"Argument `{name}` must not have soft gates, which decide about its masks; train it "
            "with `tfl.callbacks.ContinuousSparsification`, or make it by `tfl.sparsify(model)` "
            f"without `gate`. Received: {model.name!r}"
        )
    return model


def _check_prunable_model(model):
    if isinstance(model, SparseModel):
        raise ValueError(
            "Argument `model` must not be sparse yet; use `tfl.prune` to prune further. "
            f"Received: {model.name!r}, a `SparseModel`"
        )
    if not isinstance(model, keras.Model):
        raise ValueError(f"Argument `model` must be a `keras.Model`. Received: {model!r}")
    if not model.built or not model.weights:
        raise ValueError(
            "Argument `model` must be built, so that its kernels exist: start it with a "
            "`keras.Input`, call `model.build(input_shape)` or call it on a batch. "
            f"Received: {model.name!r}, which is not built"
        )
    ignored = [
        name
        for name in ("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics")
        if getattr(type(model), name) is not getattr(keras.Model, name)
    ]
    if ignored:
        warnings.warn(
            f"{type(model).__name__} overrides {ignored}, which training a `SparseModel` does not "
            "call. Wrap the layers inside with `tfl.layers.Masked`, or train with your own loop.",
            stacklevel=4,
        )
