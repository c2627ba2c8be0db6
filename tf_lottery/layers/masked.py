"""The wrapper that holds masks and computes with the masked kernels."""

import contextlib

import keras
from keras import ops

from tf_lottery.layers.functional_call import functional_call
from tf_lottery.layers.growth_state import GrowthState
from tf_lottery.layers.kernels import find_kernels, unique_paths
from tf_lottery.sparsity import patterns


@keras.saving.register_keras_serializable("tf_lottery")
class Masked(keras.layers.Layer):
    """Computes with `kernel * mask` in place of the kernels of a layer.

    The masks are non-trainable boolean variables of the wrapper, all true at first. As
    the product is part of the forward pass, gradients of pruned weights are zero, norms
    of gradients are those of the sparse network, and no optimizer can revive a weight.

    Args:
        layer: A `keras.Layer` or model, wrapped and not copied.
        include: Which weights get a mask instead of the default; see
            `tf_lottery.layers.find_kernels`. Defaults to `None`.
        exclude: Which weights get none. Defaults to `None`.
        pattern: The pattern that masks are going to follow, or its name; kernels that it does
            not divide get none. Defaults to `"unstructured"`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        layer: The wrapped layer.
        masks: List of the masks, in the order of `kernels`.
        growth: `GrowthState` of a method that grows connections, or `None`.
        tweaks: List of `Tweak`, what retraining changes for a while.
        skipped: Dict of paths of weights without a mask to the reason.

    Example:

    >>> masked = Masked(keras.layers.Dense(1, use_bias=False, kernel_initializer="ones"))
    >>> masked.build((None, 2))
    >>> masked.set_masks([np.array([[True], [False]])])
    >>> ops.convert_to_numpy(masked(np.array([[3.0, 5.0]])))
    array([[3.]], dtype=float32)
    """

    def __init__(self, layer, include=None, exclude=None, pattern="unstructured", **kwargs):
        if not isinstance(layer, keras.Layer):
            raise ValueError(
                f"Argument `layer` must be a `keras.Layer` or a model. Received: {layer!r}"
            )
        # Under a float32 policy the wrapper reads variables uncast; the layers inside
        # cast them as they always do.
        super().__init__(**{"name": f"masked_{layer.name}", **kwargs, "dtype": "float32"})
        self.layer = layer
        self.pattern = patterns.get(pattern)
        self._rules = {"include": include, "exclude": exclude, "pattern": self.pattern}
        self._kernel_positions = None
        self.masks, self.skipped = [], {}
        self.growth = None
        self.tweaks = []

    def build(self, input_shape=None):
        """Builds the layer if that has not happened and creates masks, or what replaces them."""
        if not self.layer.built:
            self.layer.build(input_shape)
        weights = self.layer.weights
        if self._kernel_positions is None:
            selection = find_kernels(self.layer, **self._rules)
            chosen = {id(kernel) for kernel in selection.kernels}
            self._kernel_positions = [i for i, w in enumerate(weights) if id(w) in chosen]
            self.skipped = selection.skipped
        self.build_masks()
        self.built = True

    def build_masks(self):
        """Creates the variables that decide which weights are kept."""
        for position, kernel in zip(self._kernel_positions, self.kernels, strict=True):
            mask = self.add_weight(
                name=f"mask_{position}",
                shape=kernel.shape,
                initializer="ones",
                dtype="bool",
                trainable=False,
                autocast=False,
            )
            self.masks.append(mask)

    @property
    def kernels(self):
        """List of the variables that have a mask."""
        # Not an attribute: Keras would take the variables for the wrapper's own.
        weights = self.layer.weights
        return [weights[position] for position in self._kernel_positions or ()]

    @property
    def paths(self):
        """List of the kernels' paths, made unique."""
        paths = unique_paths(self.layer.weights)
        return [paths[position] for position in self._kernel_positions or ()]

    @property
    def metrics(self):
        """List of the metrics of the layer, without those a model inside was compiled with.

        As in any model that contains a compiled one, they belong to another training.
        """
        return [] if isinstance(self.layer, keras.Model) else super().metrics

    def call(self, inputs, *args, training=None, **kwargs):
        """Calls the layer with its kernels masked."""
        masked = self.masked_kernels(training)
        if self.growth is not None:
            masked = [
                (kernel, self.growth.watch(i, value)) for i, (kernel, value) in enumerate(masked)
            ]
        return self.call_with(masked, inputs, *args, training=training, **kwargs)

    def call_with(self, replacements, *args, **kwargs):
        """Calls the layer with the tweaks in effect and some variables replaced.

        Args:
            replacements: List of pairs of a variable of the layer and a tensor.
            *args: Passed to the layer.
            **kwargs: Passed to the layer.
        """
        helpers = [tweak for tweak in self.tweaks if tweak.changes_call]
        with contextlib.ExitStack() as stack:
            for tweak in helpers:
                stack.enter_context(tweak.in_effect(self.layer))
            return functional_call(self.layer, replacements, *args, helpers=helpers, **kwargs)

    def masked_kernels(self, training=None):
        """Returns pairs of a kernel and the tensor that takes its place in a call.

        Args:
            training: Whether the call is a training step. Defaults to `None`: it is not.
        """
        return [
            (kernel, kernel.value * ops.cast(mask.value, kernel.dtype))
            for kernel, mask in zip(self.kernels, self.masks, strict=True)
        ]

    def remember_growth(self, decay=None, gain=1.0):
        """Provides the growth state that a method needs, keeping one that fits already.

        Args:
            decay: Float, or `None` for no dense gradients; see `GrowthState`. Defaults to
                `None`.
            gain: Float. Defaults to `1.0`.

        Returns:
            The `GrowthState`, its explored weights those that were or are active.
        """
        old = self.growth
        if old is None or (old.decay, old.gain) != (decay, gain):
            new = GrowthState([kernel.shape for kernel in self.kernels], decay, gain)
            if old is not None:
                new.explore([ops.convert_to_numpy(explored) for explored in old.explored])
            self._set_growth(new)
        self.growth.explore(self.get_masks())
        return self.growth

    def _set_growth(self, growth):
        with self._unlocked():
            self._tracker.untrack(self.growth)
            self.growth = growth

    def set_tweaks(self, tweaks):
        """Sets the tweaks, in place of those there are.

        Args:
            tweaks: List of `Tweak`.
        """
        with self._unlocked():
            for tweak in self.tweaks:
                self._tracker.untrack(tweak)
            self.tweaks = list(tweaks)

    @contextlib.contextmanager
    def _unlocked(self):
        # As Keras' own `enable_lora` does it: a built layer is locked, and forgets nothing.
        self._tracker.unlock()
        try:
            yield
        finally:
            self._tracker.lock()

    def get_masks(self):
        """Returns the masks as a list of boolean arrays."""
        return [ops.convert_to_numpy(mask) for mask in self.masks]

    def set_masks(self, masks):
        """Sets the masks and writes zeros into the pruned positions of the kernels.

        Args:
            masks: List of boolean arrays.
        """
        for variable, mask in zip(self.masks, masks, strict=True):
            variable.assign(mask)
        self.apply_masks()

    def get_kernels(self):
        """Returns what is left of the kernels, zeros included, as a list of arrays."""
        pairs = zip(self.kernels, self.get_masks(), strict=True)
        return [ops.convert_to_numpy(kernel) * mask for kernel, mask in pairs]

    def apply_masks(self):
        """Writes zeros into the pruned positions of the kernels."""
        for kernel, mask in zip(self.kernels, self.masks, strict=True):
            kernel.assign(kernel.value * ops.cast(mask.value, kernel.dtype))

    def save_own_variables(self, store):
        """Saves the masks and the states of the layer's random seeds.

        Keras leaves the seeds out of its files; with them, training goes on after loading
        as if it had never stopped.
        """
        super().save_own_variables(store)
        for i, seed in enumerate(self._seeds()):
            store[f"seed_{i}"] = ops.convert_to_numpy(seed)

    def load_own_variables(self, store):
        """Loads what `save_own_variables` saved."""
        # The stores of Keras are not mappings: they have keys, but cannot be iterated.
        values = {key: store[key] for key in store.keys()}  # noqa: SIM118
        seeds = [values.pop(f"seed_{i}") for i in range(len(self._seeds()))]
        super().load_own_variables(values)
        for seed, value in zip(self._seeds(), seeds, strict=True):
            seed.assign(value)

    def _seeds(self):
        weights = {id(weight) for weight in self.layer.weights}
        return [v for v in self.layer.non_trainable_variables if id(v) not in weights]

    def get_config(self):
        """Returns the configuration; rules are kept as the weights they selected."""
        return {
            **super().get_config(),
            "layer": keras.saving.serialize_keras_object(self.layer),
            "kernel_positions": self._kernel_positions,
            "skipped": self.skipped,
            "pattern": keras.saving.serialize_keras_object(self.pattern),
            "growth": keras.saving.serialize_keras_object(self.growth),
            "tweaks": [keras.saving.serialize_keras_object(tweak) for tweak in self.tweaks],
        }

    @classmethod
    def from_config(cls, config):
        """Returns the wrapper that `config` describes."""
        config = dict(config)
        positions, skipped = config.pop("kernel_positions"), config.pop("skipped")
        growth, tweaks = config.pop("growth", None), config.pop("tweaks", ())
        masked = cls(keras.saving.deserialize_keras_object(config.pop("layer")), **config)
        masked._kernel_positions, masked.skipped = positions, dict(skipped)
        masked.growth = keras.saving.deserialize_keras_object(growth)
        masked.tweaks = [keras.saving.deserialize_keras_object(tweak) for tweak in tweaks]
        return masked
