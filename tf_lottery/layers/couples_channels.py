"""The channel groups of a wrapper, and the weights that are masked with a channel."""

import keras
import numpy as np

from tf_lottery import hosts
from tf_lottery.layers.companion_masks import CompanionMasks
from tf_lottery.layers.kernel_list import KernelList
from tf_lottery.layers.kernels import find_kernels
from tf_lottery.sparsity.groups import Group, combined_masks

NO_GROUP = "its outputs are no channels that can be removed, see `tfl.channel_groups(model)`"


class CouplesChannels(keras.layers.Layer):
    """A layer around another one, in which channels of several layers are pruned together.

    A subclass has the attributes `layer`, `parts`, `selection`, `kernels` and `keys` of
    `tf_lottery.layers.Masked`. Without groups, all lists are empty.
    """

    _groups: tuple[Group, ...] = ()
    # Until the layer is built, and without groups.
    _companion_list: KernelList = KernelList(None, [])
    _other_list: KernelList = KernelList(None, [])

    @property
    def groups(self) -> list[Group]:
        """List of the channel groups; see `tf_lottery.sparsity.groups.Group`."""
        return list(self._groups)

    @property
    def companions(self) -> list[keras.Variable]:
        """List of the variables that are masked with a channel, but are no kernels.

        Raises:
            ValueError: If a layer has changed so that a mask has no effect.
        """
        return self._companion_list.variables

    def named_members(self) -> dict[str, keras.Variable]:
        """Returns a dict of the keys of all members of groups to the variables."""
        if not self._groups:
            return {}
        kernels = dict(zip(self.keys, self.kernels, strict=True))
        return {**self._other_list.by_key, **self._companion_list.by_key, **kernels}

    def kept_channels(self) -> dict[str, np.ndarray]:
        """Returns a dict of the names of groups to boolean arrays, true for channels that live.

        A channel lives if any weight of the kernels that make it is kept.
        """
        masks = dict(zip(self.keys, self.selection.kept(self.kernels), strict=True))
        return {group.name: group.as_matrix(masks).any(axis=0) for group in self._groups}

    def effective_companions(self) -> list[tuple]:
        """Returns pairs of a companion and the tensor that replaces it in a call."""
        companions = self.companions
        if not companions:
            return []
        values = self._companion_part().replace_companions([c.value for c in companions])
        return list(zip(companions, values, strict=True))

    def get_companions(self) -> list[np.ndarray]:
        """Returns the companions as a list of arrays, with zeros for pruned channels."""
        arrays = map(hosts.to_numpy, self.companions)
        return [
            np.where(mask, array, np.zeros((), array.dtype))
            for mask, array in zip(self._companion_masks(), arrays, strict=True)
        ]

    def _companion_masks(self):
        """Returns the masks of companions that follow from those of the kernels."""
        shapes = {key: tuple(v.shape) for key, v in self.named_members().items()}
        masks = combined_masks(self.groups, self.kept_channels(), shapes)
        return [masks[key] for key in self._companion_list.keys]

    def _companion_part(self):
        return next(part for part in self.parts if isinstance(part, CompanionMasks))

    def _apply_companion_masks(self):
        """Sets the masks of companions, and writes zeros into pruned channels."""
        if not self._groups:
            return
        self._companion_part().keep(self._companion_masks())
        for companion, value in zip(self.companions, self.get_companions(), strict=True):
            companion.assign(value)

    def _find_members(self):
        """Finds the variables of the groups. Returns the kernels and what is skipped and why."""
        keys = [{m.key for g in self._groups for m in g.kernels}]
        keys.append({m.key for g in self._groups for m in g.companions} - keys[0])
        keys.append({m.key for g in self._groups for m in g.readers} - keys[0] - keys[1])
        kernels, companions, others = (KernelList.of_keys(self.layer, k) for k in keys)
        self._companion_list, self._other_list = companions, others
        chosen = {id(kernel) for kernel in kernels.variables}
        found = find_kernels(self.layer)
        skipped = {kernel.path: NO_GROUP for kernel in found.kernels if id(kernel) not in chosen}
        paths = {kernel.path for kernel in kernels.variables}
        skipped.update({p: why for p, why in found.skipped.items() if p not in paths})
        return kernels, skipped

    def _load_members(self, config):
        """Finds the variables of the groups that `_groups_config` described."""
        self._companion_list = KernelList.from_config(self.layer, config["companions"])
        self._other_list = KernelList.from_config(self.layer, config["others"])

    def _groups_config(self):
        """Returns a dict that fits into JSON, `None` without groups."""
        if not self._groups:
            return None
        return {
            "groups": [group.get_config() for group in self._groups],
            "companions": self._companion_list.get_config(),
            "others": self._other_list.get_config(),
        }
