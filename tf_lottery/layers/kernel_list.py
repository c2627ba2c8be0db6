"""The kernels of a wrapper, found by identity and named by keys that do not change."""

import dataclasses

import keras

from tf_lottery import files
from tf_lottery.layers.kernels import IS_FROZEN, find_kernels
from tf_lottery.layers.weights import owners_of_weights, unique_paths


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A variable that is pruned.

    Args:
        key: String, the variable's path when the model was made sparse. It stays the same when
            Keras renames layers, for example on loading.
        variable: The Keras variable.
        owner: The `keras.Layer` that multiplies its inputs by it.
        attribute: String, the attribute of the owner that holds it, or `None`.
    """

    key: str
    variable: keras.Variable
    owner: keras.Layer
    attribute: str | None

    def change(self):
        """Returns a change of the owner that makes the mask ineffective, or `None`."""
        if self.attribute is not None:
            if getattr(self.owner, self.attribute, None) is self.variable:
                return None
        elif any(weight is self.variable for weight in self.owner.weights):
            return None
        return _what_changed(self.owner)


class KernelList:
    """The kernels that a wrapper prunes, in the order of the weights of its layer.

    A plain object, since Keras would track variables in lists as variables of the wrapper.

    Args:
        layer: The wrapped `keras.Layer`.
        kernels: List of `Kernel`.
    """

    def __init__(self, layer, kernels):
        self._layer = layer
        self._kernels = kernels

    @classmethod
    def of_variables(cls, layer, variables):
        """Returns the kernel list of some weights of a layer.

        Args:
            layer: A built `keras.Layer`.
            variables: List of its weights.

        Raises:
            ValueError: If a layer does not multiply by the kernel that it stores.
        """
        keys = dict(zip(map(id, layer.weights), unique_paths(layer.weights), strict=True))
        owners = owners_of_weights(layer)
        return cls(layer, [_make_kernel(keys[id(v)], v, owners[id(v)]) for v in variables])

    @classmethod
    def of_keys(cls, layer, keys):
        """Returns the list of the weights of a layer with some names.

        Args:
            layer: A built `keras.Layer`.
            keys: Collection of the weights' paths, made unique by `unique_paths`.

        Raises:
            ValueError: If the layer has no weight of a name, or does not multiply by it as it is
                stored.
        """
        by_key = dict(zip(unique_paths(layer.weights), layer.weights, strict=True))
        if unknown := set(keys) - set(by_key):
            raise ValueError(
                f"Argument `groups` must have paths of weights of {layer.name!r}, "
                f"{sorted(by_key)}. Received: {sorted(unknown)}"
            )
        return cls.of_variables(layer, [v for key, v in by_key.items() if key in set(keys)])

    @property
    def by_key(self):
        """Dict of the names to the variables, without a check of whether masks have an effect."""
        return {kernel.key: kernel.variable for kernel in self._kernels}

    @property
    def variables(self):
        """List of the Keras variables.

        Raises:
            ValueError: If a layer has changed so that its mask has no effect.
        """
        self.check()
        return [kernel.variable for kernel in self._kernels]

    @property
    def keys(self):
        """List of the names of the kernels."""
        return [kernel.key for kernel in self._kernels]

    def check(self):
        """Raises a `ValueError` if a layer has changed since the model was made sparse."""
        for kernel in self._kernels:
            if (change := kernel.change()) is not None:
                raise ValueError(
                    f"Layer {kernel.owner.name!r} {change} since the model was made sparse, so "
                    f"the mask of its kernel {kernel.key!r} has no effect. Call `tfl.strip` before "
                    "such a change, and continue with the plain model that it returns."
                )

    def named_weights(self):
        """Returns a dict of names to all weights of the layer: keys for kernels, else paths."""
        self.check()
        keys = {id(kernel.variable): kernel.key for kernel in self._kernels}
        weights = self._layer.weights
        taken, names = set(keys.values()), []
        for weight, path in zip(weights, unique_paths(weights), strict=True):
            if id(weight) in keys:
                path = keys[id(weight)]
            else:
                while path in taken:
                    path = f"{path}#"
            taken.add(path)
            names.append(path)
        return dict(zip(names, weights, strict=True))

    def get_config(self):
        """Returns a description of the kernels, with their current positions."""
        positions = {id(weight): i for i, weight in enumerate(self._layer.weights)}
        return [
            {
                "key": kernel.key,
                "position": positions[id(variable)],
                "shape": list(variable.shape),
                "name": variable.name,
            }
            for kernel, variable in zip(self._kernels, self.variables, strict=True)
        ]

    @classmethod
    def from_config(cls, layer, config):
        """Returns the kernels that `get_config` described.

        Args:
            layer: A built `keras.Layer`.
            config: List of dicts.

        Raises:
            ValueError: If the layer has other weights at these positions, or the description is
                damaged.
        """
        weights, owners, kernels = layer.weights, owners_of_weights(layer), []
        for entry in config:
            files.check_fields(entry, {"key": str, "position": int, "shape": list, "name": str})
            position, expected = entry["position"], (entry["name"], tuple(entry["shape"]))
            found = None
            if position < len(weights):
                found = weights[position].name, tuple(weights[position].shape)
            if found != expected:
                raise ValueError(
                    f"Layer {layer.name!r} must have the kernel {entry['key']!r}, named "
                    f"{expected[0]!r} and of shape {expected[1]}, as weight {position}. "
                    f"Received: {found or 'a layer with fewer weights'}"
                )
            variable = weights[position]
            kernels.append(_make_kernel(entry["key"], variable, owners[id(variable)]))
        return cls(layer, kernels)


def select_kernels(layer, include, exclude, pattern):
    """Selects the kernels that a wrapper prunes; see `find_kernels` for the arguments.

    Returns:
        A `KernelList`, and a dict from the paths of weights without a mask to the reason.

    Raises:
        ValueError: If a layer does not multiply by the kernel that it stores.
    """
    selection = find_kernels(layer, include, exclude, pattern)
    owners = owners_of_weights(layer)
    for weight in layer.weights:
        # LoRA adapters freeze the kernel, so that it is not among the selected ones.
        is_frozen = selection.skipped.get(weight.path) == IS_FROZEN
        if is_frozen and getattr(owners[id(weight)], "lora_enabled", False):
            _check_is_stored(weight.path, weight, owners[id(weight)])
    chosen = {id(kernel) for kernel in selection.kernels}
    variables = [weight for weight in layer.weights if id(weight) in chosen]
    return KernelList.of_variables(layer, variables), selection.skipped


def _make_kernel(key, variable, owner):
    _check_is_stored(key, variable, owner)
    return Kernel(key, variable, owner, _attribute_of(owner, variable))


def _check_is_stored(key, variable, owner):
    """Raises a `ValueError` if a layer does not multiply by the stored variable itself."""
    if _attribute_differs(owner, variable):
        change = "has LoRA adapters" if getattr(owner, "lora_enabled", False) else "computes it"
        raise ValueError(
            f"Layer {owner.name!r} multiplies by a kernel that is not the stored {key!r}, since "
            f"it {change}. A mask would have no effect. Leave it out with `exclude`, or merge "
            "adapters into the kernel and rebuild the model without them before making it sparse."
        )


def _attribute_of(owner, variable):
    """Returns the name of the public attribute that is the variable, or `None`."""
    names = [variable.name, *(name for name in vars(owner) if not name.startswith("_"))]
    return next((name for name in names if getattr(owner, name, None) is variable), None)


def _attribute_differs(owner, variable):
    """Returns whether the attribute with the variable's name is a computed tensor."""
    shown = getattr(owner, variable.name, None)
    # Another variable of the same name is a second weight, not a computed tensor.
    if shown is None or isinstance(shown, keras.Variable):
        return False
    return tuple(getattr(shown, "shape", ())) == tuple(variable.shape)


def _what_changed(owner):
    if getattr(owner, "lora_enabled", False):
        return "got LoRA adapters"
    if getattr(owner, "quantization_mode", None):
        return f"was quantized to {owner.quantization_mode}"
    return "has replaced its kernel"
