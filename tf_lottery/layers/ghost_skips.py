"""Skip connections around convolutions that exist while a model trains."""

import contextlib
import functools

import keras
from keras import ops

from tf_lottery._keras import all_layers
from tf_lottery.layers.interception import intercepted, with_activation
from tf_lottery.layers.part import Part

BRANCHES = ("conv", "identity")
_CONVOLUTIONS = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D, 3: keras.layers.Conv3D}


@keras.saving.register_keras_serializable("tf_lottery")
class GhostSkips(Part):
    """Adds `factor * branch(x)` to the outputs of convolutions of `x`.

    Branches are not masked. A branch is added after the batch normalization that follows the
    convolution. If there is none, it is added before the convolution's own activation.

    Args:
        skips: List of dicts, one for every convolution, with these keys: `name`; `index`, the
            position of the convolution in `all_layers` of the wrapped layer; `after`, the
            position of the normalization that follows it, or `None`; `inputs` and `filters`,
            the numbers of channels; `strides`, `padding`, `data_format`; and `dtype`, the policy.
        branch: `"conv"` or `"identity"`. Defaults to `"conv"`.
        initial_value: Float, of all weights of the 1x1 convolutions. Defaults to `1e-4`.
        epsilon: Float, of the batch normalization after them. Defaults to `1e-5`.
        momentum: Float, of its moving averages. Defaults to `0.9`.
        skipped: Dict from paths of masked kernels without a skip to the reason. Defaults to
            `None`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        factor: Variable, initially 1. At 0 the branches have no effect.
    """

    changes_call = True

    def __init__(
        self,
        skips,
        branch="conv",
        initial_value=1e-4,
        epsilon=1e-5,
        momentum=0.9,
        skipped=None,
        **kwargs,
    ):
        super().__init__(**{"name": "ghost_skips", **kwargs})
        self.skips = [dict(skip) for skip in skips]
        self.branch = branch
        self.skipped = dict(skipped or {})
        self.initial_value, self.epsilon, self.momentum = initial_value, epsilon, momentum
        self.factor = self.add_weight(
            name="factor", shape=(), initializer="ones", trainable=False, autocast=False
        )
        self.branches = (
            [] if branch == "identity" else list(map(self._make_convolution, self.skips))
        )
        self.built = True

    @property
    def layer_names(self):
        """List of the names of the convolutions with a skip."""
        return [skip["name"] for skip in self.skips]

    @property
    def active_branches(self):
        """List of pairs of a skip and the layer of its branch, empty if the factor is 0.

        These layers belong to the network as it computes now, so its size and cost include them.
        """
        is_active = self.branches and float(ops.convert_to_numpy(self.factor))
        return list(zip(self.skips, self.branches, strict=True)) if is_active else []

    @contextlib.contextmanager
    def in_effect(self, layer):
        """Makes the convolutions, or the normalizations after them, add the branches."""
        layers = all_layers(layer)
        with contextlib.ExitStack() as stack:
            for i, skip in enumerate(self.skips):
                convolution = layers[skip["index"]]
                branch = functools.partial(self._scaled_branch, i)
                if skip["after"] is None:
                    stack.enter_context(_adding_inside(convolution, branch))
                else:
                    recorded = []
                    stack.enter_context(_recording(convolution, recorded))
                    stack.enter_context(_adding_after(layers[skip["after"]], branch, recorded))
            yield

    def check_settle(self):
        """Raises a `ValueError` if the factor of the branches is not 0."""
        factor = float(ops.convert_to_numpy(self.factor))
        if factor:
            raise ValueError(
                "Argument `model` must not have active ghost skips, which no plain layer computes: "
                "fade them out with `tfl.callbacks.GhostSkipAnnealing`, or remove them with "
                f"`tfl.retrain.remove_ghost_skips`. Received: ghost skips with factor {factor:.3g}"
            )

    def get_config(self):
        """Returns the configuration."""
        return {
            **super().get_config(),
            "skips": self.skips,
            "branch": self.branch,
            "initial_value": self.initial_value,
            "epsilon": self.epsilon,
            "momentum": self.momentum,
            "skipped": self.skipped,
        }

    def _scaled_branch(self, i, x):
        skip = self.skips[i]
        y = _fit(x, skip) if self.branch == "identity" else self.branches[i](x)
        return y * ops.cast(self.factor.value, y.dtype)

    def _make_convolution(self, skip):
        rank, dtype = len(skip["strides"]), keras.dtype_policies.get(skip["dtype"])
        axis = 1 if skip["data_format"] == "channels_first" else -1
        shape = [None] * (rank + 2)
        shape[axis] = skip["inputs"]
        branch = keras.Sequential(
            [
                _CONVOLUTIONS[rank](
                    skip["filters"],
                    1,
                    strides=skip["strides"],
                    padding="same",
                    data_format=skip["data_format"],
                    use_bias=False,
                    kernel_initializer=keras.initializers.Constant(self.initial_value),
                    dtype=dtype,
                ),
                keras.layers.BatchNormalization(
                    axis, momentum=self.momentum, epsilon=self.epsilon, dtype=dtype
                ),
            ],
            name=f"ghost_skip_{skip['index']}",
        )
        branch.build(tuple(shape))
        return branch


def _adding_inside(convolution, branch):
    """Adds a branch to the output of a convolution, before its activation."""

    def change(call):
        def with_branch(x, *args, **kwargs):
            activation = convolution.activation

            def add_branch(y):
                return activation(y + ops.cast(branch(x), y.dtype))

            with with_activation(convolution, add_branch):
                return call(x, *args, **kwargs)

        return with_branch

    return intercepted(convolution, change)


def _recording(convolution, recorded):
    """Appends the inputs and outputs of a convolution to a list, for the next layer."""

    def change(call):
        def record(x, *args, **kwargs):
            y = call(x, *args, **kwargs)
            recorded.append((x, y))
            return y

        return record

    return intercepted(convolution, change)


def _adding_after(layer, branch, recorded):
    """Adds the branch of the preceding convolution to the output of a layer."""

    def change(call):
        def with_branch(x, *args, **kwargs):
            y = call(x, *args, **kwargs)
            (inputs,) = (before for before, convolved in recorded if convolved is x)
            return y + ops.cast(branch(inputs), y.dtype)

        return with_branch

    return intercepted(layer, change)


def _fit(x, skip):
    """Pools `x`, and pads or cuts its channels, to the shape of the convolution's output."""
    strides, data_format = skip["strides"], skip["data_format"]
    if skip["padding"] == "causal":
        x = x[:, :: strides[0]] if data_format == "channels_last" else x[..., :: strides[0]]
    elif max(strides) > 1:
        x = ops.average_pool(x, strides, strides, padding="same", data_format=data_format)
    axis = 1 if data_format == "channels_first" else len(x.shape) - 1
    missing = skip["filters"] - skip["inputs"]
    if missing > 0:
        return ops.pad(x, [(0, missing if i == axis else 0) for i in range(len(x.shape))])
    return ops.take(x, range(skip["filters"]), axis=axis) if missing < 0 else x
