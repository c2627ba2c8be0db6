"""The wrapper that calls a layer with sparse kernels."""

import contextlib
from collections.abc import Sequence
from typing import Any, Self

import keras

from tf_lottery import _keras, files
from tf_lottery._typing import Tensor
from tf_lottery.layers._functional_call import functional_call
from tf_lottery.layers.companion_masks import CompanionMasks
from tf_lottery.layers.has_masks import HasMasks
from tf_lottery.layers.kernel_list import KernelList, select_kernels
from tf_lottery.layers.kernels import listed_rules
from tf_lottery.layers.masks import Masks
from tf_lottery.layers.missing_masks import sparsity_of
from tf_lottery.layers.ownership import check_unclaimed, claim
from tf_lottery.layers.part import Selection
from tf_lottery.layers.saves_seeds import SavesSeeds
from tf_lottery.sparsity import patterns
from tf_lottery.sparsity.groups import Group

FORMAT = 2


@keras.saving.register_keras_serializable("tf_lottery")
class Masked(HasMasks, SavesSeeds):
    """Calls a layer with the effective kernels that its parts compute from the stored kernels.

    The wrapped layer itself is not changed. Only during a call, its kernels have other values.

    Args:
        layer: A `keras.Layer` or model. It is wrapped, not copied. Wrap whole recurrent layers,
            `Masked(Bidirectional(LSTM(8)))`, not the cells or layers that they are made of.
        include: Which weights to prune instead of the default; see
            `tf_lottery.layers.find_kernels`. Defaults to `None`.
        exclude: Which weights not to prune. Defaults to `None`.
        pattern: The pattern that the masks will follow, or its name. Kernels that it does
            not divide are not pruned. Defaults to `"unstructured"`.
        selection: A `tf_lottery.layers.Selection`, which decides which weights are kept.
            Defaults to `None`: `tf_lottery.layers.Masks()`.
        groups: List of `tf_lottery.sparsity.groups.Group`, channels of several weights that are
            pruned together, with the pattern `"channel"`. The kernels are then those of the
            groups, and `include` and `exclude` are not used. Defaults to `None`: the pattern
            prunes each kernel by itself.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        layer: The wrapped layer.
        parts: List of `tf_lottery.layers.Part`, the selection first.
        skipped: Dict from paths of weights that are not pruned to the reason.

    Raises:
        ValueError: If an argument is of another type, the selection cannot follow the pattern,
            another wrapper prunes weights of the layer, or a layer does not multiply by the kernel
            that it stores.

    Example:

    >>> masked = tfl.layers.Masked(keras.layers.Dense(1, use_bias=False, kernel_initializer="ones"))
    >>> masked.build((None, 2))
    >>> masked.set_masks([np.array([[True], [False]])])
    >>> ops.convert_to_numpy(masked(np.array([[3.0, 5.0]], "float32")))
    array([[3.]], dtype=float32)
    """

    def __init__(
        self,
        layer: keras.Layer,
        include: Any = None,
        exclude: Any = None,
        pattern: patterns.Pattern | str = "unstructured",
        selection: Selection | None = None,
        groups: Sequence[Group] | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(layer, keras.Layer):
            raise ValueError(
                f"Argument `layer` must be a `keras.Layer` or a model. Received: {layer!r}"
            )
        selection = Masks() if selection is None else selection
        if not isinstance(selection, Selection):
            raise ValueError(
                "Argument `selection` must be a `tf_lottery.layers.Selection`. "
                f"Received: {selection!r}"
            )
        # The wrapper casts neither variables nor inputs. The wrapped layers cast them as usual.
        own = {"dtype": "float32", "autocast": False}
        super().__init__(**{"name": f"masked_{layer.name}", **kwargs, **own})
        self.layer = layer
        self.pattern = patterns.get(pattern)
        if self.pattern.structured and not selection.structured:
            raise ValueError(
                f"Argument `pattern` must be 'unstructured' with {type(selection).__name__}, which "
                f"select weights one by one. Received: pattern={str(self.pattern)!r}"
            )
        if groups and not isinstance(self.pattern, patterns.Channel):
            raise ValueError(
                "Argument `groups` must be `None` unless `pattern='channel'`. "
                f"Received: {len(groups)} groups with pattern={str(self.pattern)!r}"
            )
        self._groups = tuple(groups or ())
        self._rules = {"include": include, "exclude": exclude, "pattern": self.pattern}
        self._kernel_list: KernelList = None
        self._saved_kernels = None
        self._saved_members: list[list[dict]] = None
        self.skipped = {}
        self.parts = [selection, *([CompanionMasks()] if groups else [])]

    def build(self, input_shape: Any = None) -> None:
        """Builds the layer if it is not built, finds the kernels and creates the variables."""
        if not self.layer.built:
            self.layer.build(input_shape)
        check_unclaimed(self.layer)
        if self._saved_kernels is not None:
            self._kernel_list = KernelList.from_config(self.layer, self._saved_kernels)
            if self._saved_members is not None:
                self._load_members(self._saved_members)
        elif self._groups:
            self._kernel_list, self.skipped = self._find_members()
        elif self._kernel_list is None:
            self._kernel_list, self.skipped = select_kernels(self.layer, **self._rules)
        if self.selection.variables:
            raise ValueError(
                "Argument `selection` must be new, since it gets variables for the kernels of one "
                f"layer. Received: {self.selection.name!r}, which another layer has used"
            )
        for part in self.parts:
            part.create_variables(self.kernels)
        if self._groups:
            self.find_part(CompanionMasks).create_companion_variables(self.companions)
        claim(self.kernels, self)
        self.built = True

    @property
    def kernels(self) -> list[keras.Variable]:
        """List of the variables that are pruned.

        Raises:
            ValueError: If a layer has changed so that its mask has no effect, for example by LoRA
                adapters.
        """
        return [] if self._kernel_list is None else self._kernel_list.variables

    @property
    def keys(self) -> list[str]:
        """List of the names of the kernels: their paths when the layer was wrapped."""
        return [] if self._kernel_list is None else self._kernel_list.keys

    def named_weights(self) -> dict[str, keras.Variable]:
        """Returns a dict of the names of all weights of the layer to the variables."""
        return self._kernel_list.named_weights()

    @property
    def metrics(self) -> list[keras.Metric]:
        """List of the metrics of the layer, or an empty list if it is a model.

        The metrics that an inner model was compiled with belong to that model's own training.
        """
        return [] if isinstance(self.layer, keras.Model) else super().metrics

    def call(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Calls the layer with its effective kernels."""
        self.check_copy()
        values = self.effective_kernels(training)
        return self.call_with(values, inputs, *args, training=training, **kwargs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns the mask that belongs to the outputs, such as that of time steps, or `None`."""
        if not self.layer.supports_masking:
            return None
        return self.layer.compute_mask(inputs, previous_mask)

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the shape of the layer's output, as `TimeDistributed` asks for it."""
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the symbolic output of a call, of the data type that the layer has."""
        # Keras would make it of the output's shape and the data type of this wrapper.
        return keras.Operation.compute_output_spec(self, *args, **kwargs)

    def effective_kernels(
        self, training: bool | None = None
    ) -> list[tuple[keras.Variable, Tensor]]:
        """Returns pairs of a kernel and the tensor that replaces it in a call.

        Args:
            training: Whether the call is a training step. Defaults to `None`: inference.
        """
        kernels = self.kernels
        values = [kernel.value for kernel in kernels]
        for part in self.parts:
            values = part.replace(values, training)
        return list(zip(kernels, values, strict=True))

    def call_with(
        self, replacements: list[tuple[keras.Variable, Tensor]], *args: Any, **kwargs: Any
    ) -> Any:
        """Calls the layer with the parts in effect and some variables replaced.

        Args:
            replacements: List of pairs of a variable of the layer and a tensor.
            *args: Passed to the layer.
            **kwargs: Passed to the layer.

        Raises:
            ValueError: If a layer assigns its kernel in the call and the selection does not
                support that, as soft gates.
        """
        replacements = [*self.effective_companions(), *replacements]
        read_only = {}
        if not self.selection.kernels_can_be_assigned:
            pairs = zip(self.kernels, self.keys, strict=True)
            read_only = {id(kernel): self._no_assignment(key) for kernel, key in pairs}
        with contextlib.ExitStack() as stack:
            for part in self.parts:
                if part.changes_call:
                    stack.enter_context(part.in_effect(self.layer))
            return functional_call(self.layer, replacements, *args, read_only=read_only, **kwargs)

    def _no_assignment(self, key):
        return (
            f"The kernel {key!r} is assigned by a layer while it is called, as in spectral "
            f"normalization, and {type(self.selection).__name__} would change the assigned value "
            "again. Leave it out with `exclude`, or use masks: `tfl.sparsify(model, sparsity)`."
        )

    def save_own_variables(self, store: Any) -> None:
        """Saves the states of the random seeds. The parts save their own variables."""
        # Raises an error if a layer has changed.
        _ = self.kernels
        super().save_own_variables(store)

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved."""
        super().load_own_variables(store)
        self._expected_sparsity = None

    def get_config(self) -> dict:
        """Returns the configuration. Once built, it has the kernels instead of the rules for them.

        Raises:
            ValueError: If the wrapper is not built, and a rule is no regular expression.
        """
        return {
            **super().get_config(),
            "format": FORMAT,
            "layer": keras.saving.serialize_keras_object(self.layer),
            "skipped": self.skipped,
            "pattern": keras.saving.serialize_keras_object(self.pattern),
            "parts": [keras.saving.serialize_keras_object(part) for part in self.parts],
            **(
                self._config_before_build() if self._kernel_list is None else self._kernels_config()
            ),
        }

    def _kernels_config(self):
        return {
            "kernels": self._kernel_list.get_config(),
            "sparsity": sparsity_of(self),
            "groups": self._groups_config(),
        }

    def _config_before_build(self):
        found = {"kernels": self._saved_kernels, "sparsity": self._expected_sparsity}
        if self._saved_kernels is not None:
            return {**found, "groups": self._saved_members}
        rules = {name: listed_rules(self._rules[name]) for name in ("include", "exclude")}
        for name, listed in rules.items():
            if not all(isinstance(rule, str) for rule in listed):
                raise ValueError(
                    f"Argument `{name}` must be one or more regular expressions in the "
                    "configuration of a wrapper that is not built yet; build it before. "
                    f"Received: {name}={self._rules[name]!r} of {self.name!r}"
                )
            rules[name] = listed or self._rules[name]
        return {**found, "groups": self._groups_config(), **rules}

    @classmethod
    def from_config(cls, config: dict) -> Self:
        """Returns the wrapper that `config` describes.

        Raises:
            ValueError: If a version of the library with another format wrote it, or it is damaged.
        """
        config = dict(config)
        if (version := config.pop("format", 1)) != FORMAT:
            raise ValueError(
                f"A sparse model of format {FORMAT} is needed. Received: one of format {version}, "
                "saved by another version of tf_lottery. Load it with that version, save a "
                "`tfl.Ticket` of it, and apply the ticket to a new sparse model."
            )
        kernels, skipped = config.pop("kernels"), dict(config.pop("skipped"))
        files.check_fields(skipped, dict.fromkeys(skipped, str))
        sparsity, members = config.pop("sparsity", None), config.pop("groups", None)
        deserialize = keras.saving.deserialize_keras_object
        layer, *parts = map(deserialize, (config.pop("layer"), *config.pop("parts")))
        groups = [Group.from_config(group) for group in members["groups"]] if members else None
        masked = cls(layer, selection=parts[0], groups=groups, **config)
        masked.parts = parts
        masked._saved_kernels, masked.skipped = kernels, skipped
        masked._saved_members = members
        masked._expected_sparsity = sparsity
        return masked


def masked_layers(model):
    """Returns the wrappers in a model, except those inside parts, such as a sparse teacher's.

    Args:
        model: A built `keras.Layer`.
    """
    found = [layer for layer in _keras.all_layers(model) if isinstance(layer, Masked)]
    inside = {
        id(sublayer)
        for layer in found
        for part in layer.parts
        for sublayer in _keras.all_layers(part)
    }
    return [layer for layer in found if id(layer) not in inside]
