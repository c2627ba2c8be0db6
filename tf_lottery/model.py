"""Make a model sparse and get it back."""

import warnings

import keras
import numpy as np
from keras import ops

from tf_lottery import report
from tf_lottery.checks import choice, fraction
from tf_lottery.layers import Masked
from tf_lottery.sparsity import masks as mask_ops
from tf_lottery.sparsity import scores as score_functions


@keras.saving.register_keras_serializable("tf_lottery")
class SparseModel(keras.Model):
    """A Keras model whose kernels are masked.

    It compiles, fits, evaluates, predicts, saves and loads as any Keras model.
    `tfl.sparsify` makes one, `tfl.strip` gives the wrapped model back.

    Args:
        model: A built `keras.Model`, wrapped and not copied.
        include: Which weights to prune; see `tfl.sparsify`. Defaults to `None`.
        exclude: Which weights not to prune. Defaults to `None`.
        **kwargs: Arguments of `keras.Model`.

    Raises:
        ValueError: If `model` is not a built model or has nothing to prune.
    """

    def __init__(self, model, include=None, exclude=None, **kwargs):
        wrapper = kwargs.pop("masked", None)
        if wrapper is None:
            _check_prunable_model(model)
            wrapper = Masked(model, include, exclude)
        super().__init__(**{"name": f"sparse_{wrapper.layer.name}", **kwargs, "dtype": "float32"})
        self.masked = wrapper
        if not wrapper.built:
            wrapper.build()
        if not self.masked.kernels:
            raise ValueError(
                "Argument `model` must have at least one kernel to prune; check `include` and "
                f"`exclude`. Received: {wrapper.layer.name!r}, skipped: {wrapper.skipped}"
            )
        self.built = True

    @property
    def model(self):
        """The wrapped model."""
        return self.masked.layer

    @property
    def output_names(self):
        """Names of the wrapped model's outputs, by which losses and metrics can be given."""
        return getattr(self.model, "output_names", None)

    @property
    def kernels(self):
        """Dict of paths to the variables that have a mask."""
        return dict(zip(self.masked.paths, self.masked.kernels, strict=True))

    @property
    def density(self):
        """The fraction of weights the masks keep, over all kernels."""
        return mask_ops.density(self.get_masks())

    @property
    def sparsity(self):
        """The fraction of weights the masks prune, over all kernels."""
        return 1.0 - self.density

    def call(self, inputs, training=None):
        """Calls the wrapped model with its kernels masked."""
        return self.masked(inputs, training=training)

    def get_masks(self):
        """Returns a dict of kernel paths to boolean arrays, True meaning kept."""
        return {
            path: ops.convert_to_numpy(mask)
            for path, mask in zip(self.masked.paths, self.masked.masks, strict=True)
        }

    def set_masks(self, masks):
        """Sets masks and writes zeros into the pruned positions of the kernels.

        Args:
            masks: Dict of kernel paths to boolean arrays; kernels it leaves out keep
                their masks.

        Raises:
            ValueError: If a path is unknown or an array is not boolean or does not fit;
                then no mask is changed.
        """
        variables = dict(zip(self.masked.paths, self.masked.masks, strict=True))
        masks = {path: np.asarray(mask) for path, mask in masks.items()}
        for path, mask in masks.items():
            if path not in variables:
                raise ValueError(
                    "Argument `masks` must have paths of the model's kernels, "
                    f"{sorted(variables)}. Received: {path!r}"
                )
            if mask.dtype != bool or mask.shape != tuple(variables[path].shape):
                raise ValueError(
                    f"Argument `masks[{path!r}]` must be a boolean array of shape "
                    f"{tuple(variables[path].shape)}. Received: dtype={mask.dtype}, "
                    f"shape={mask.shape}"
                )
        for path, mask in masks.items():
            variables[path].assign(mask)
        self.masked.apply_masks()

    def get_kernels(self):
        """Returns a dict of kernel paths to the effective values, `kernel * mask`."""
        masks = self.get_masks()
        return {path: ops.convert_to_numpy(k) * masks[path] for path, k in self.kernels.items()}

    def summary(self, print_fn=None):
        """Prints the sparsity of every kernel.

        Args:
            print_fn: Function that takes the text. Defaults to `print`.
        """
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


def sparsify(
    model, sparsity=0.0, scores="magnitude", scope="layer", include=None, exclude=None, seed=0
):
    """Wraps a model so that its kernels can be pruned, and prunes them at once if asked.

    Prunable are the kernels of rank two or more of dense, einsum, convolutional and
    recurrent layers, of attention and the pointwise kernels of separable convolutions,
    at any depth, in sequential, functional and subclassed models; never biases,
    normalization, embeddings or depthwise kernels unless asked.

    Args:
        model: A built `keras.Model`. It is wrapped, not copied.
        sparsity: Float in [0, 1), the fraction of zeros to start with. Defaults to `0.0`:
            nothing is pruned yet.
        scores: Which weights start as zeros: those with the lowest scores, `"magnitude"`,
            `"random"`, or a function as in `tf_lottery.sparsity.scores`. Defaults to
            `"magnitude"`.
        scope: `"layer"` gives every kernel the asked sparsity, `"global"` ranks all weights
            together. Defaults to `"layer"`, since the magnitudes of untrained layers show
            the scale of their initializers rather than their importance.
        include: Which weights to prune instead of the default: a regular expression searched
            for in `variable.path`, a layer class, a callable `(variable, layer) -> bool`, or
            a list of these. Defaults to `None`.
        exclude: Which weights not to prune, in the same form. Defaults to `None`.
        seed: Integer, for `scores="random"`. Defaults to `0`.

    Returns:
        A `SparseModel`, to be compiled before training.

    Raises:
        ValueError: If `model` is not built or has no prunable kernel, or an argument is
            outside its range.

    Example:

    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> sparse = tfl.sparsify(model, sparsity=0.75)
    >>> sparse.density
    0.25
    """
    fraction("sparsity", sparsity)
    choice("scope", scope, mask_ops.SCOPES)
    score_functions.get(scores)
    sparse = SparseModel(model, include, exclude)
    if sparsity:
        prune(sparse, sparsity, scores=scores, scope=scope, seed=seed)
    return sparse


def prune(
    model,
    sparsity,
    scores="magnitude",
    scope="global",
    pattern="unstructured",
    initial=None,
    seed=0,
):
    """Prunes a sparse model once, without training.

    Pruned weights stay pruned: a lower sparsity than the model has changes nothing.

    Args:
        model: A `SparseModel`.
        sparsity: Float in [0, 1), the fraction of zeros after pruning; with `scope="layer"`
            also a dict of kernel paths to fractions.
        scores: The weights with the lowest scores are pruned; `"magnitude"`, `"movement"`,
            `"magnitude_increase"`, `"large_final_same_sign"`, `"random"` or a function as
            in `tf_lottery.sparsity.scores`. Defaults to `"magnitude"`.
        scope: `"global"` ranks all weights together, `"layer"` each kernel by itself.
            Defaults to `"global"`.
        pattern: A pattern, or its name. Defaults to `"unstructured"`.
        initial: Dict of kernel paths to the weights before training, or a `Snapshot`, for
            scores that compare with them. Defaults to `None`.
        seed: Integer or list of integers, for `scores="random"`. Defaults to `0`.

    Returns:
        Dict of kernel paths to the new masks.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> sparse = tfl.sparsify(model)
    >>> masks = tfl.prune(sparse, sparsity=0.8, scope="layer")
    """
    check_sparse_model(model)
    score = score_functions.get(scores)
    initial = getattr(initial, "weights", initial) or {}
    rng = np.random.default_rng(seed)
    values = {
        path: score(kernel, initial_weights=initial.get(path), rng=rng)
        for path, kernel in model.get_kernels().items()
    }
    before = model.get_masks()
    masks = mask_ops.top_k_masks(values, sparsity, scope, pattern, before)
    emptied = [path for path in masks if before[path].any() and not masks[path].any()]
    if emptied:
        warnings.warn(
            f"Pruning left no weight in {emptied}: no signal passes. Prune less, use "
            "`scope='layer'`, or exclude these kernels.",
            stacklevel=2,
        )
    model.set_masks(masks)
    return masks


def strip(model):
    """Gives back the model that was made sparse, zeros written into its kernels.

    Args:
        model: A `SparseModel`.

    Returns:
        The very model that `sparsify` was given, now sparse by its weights alone. It can
        be saved, exported and loaded where `tf_lottery` is not installed.

    Raises:
        ValueError: If `model` is not a `SparseModel`.

    Example:

    >>> tfl.strip(tfl.sparsify(model)) is model
    True
    """
    check_sparse_model(model).masked.apply_masks()
    return model.model


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
