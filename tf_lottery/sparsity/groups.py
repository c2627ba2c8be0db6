"""Channel groups: channels of several layers that can only be pruned together."""

import dataclasses

import numpy as np

ROLES = ("kernels", "companions", "readers")


@dataclasses.dataclass(frozen=True, eq=False)
class Member:
    """The part of a variable that belongs to the channels of a group.

    Args:
        key: String, the path of the variable.
        axis: Integer >= 0, the axis of the variable along which the channels lie.
        positions: Integer array of shape `(width, k)`: the `k` indices on that axis that belong
            to each channel of the group. `k` is 1 for most layers, 4 for the gates of an LSTM,
            and the number of pixels for a dense layer after `Flatten`.

    Example:

    >>> Member("lstm/kernel", 1, np.arange(12).reshape(4, 3).T).positions[0]
    array([0, 3, 6, 9])
    """

    key: str
    axis: int
    positions: np.ndarray

    def get_config(self) -> dict:
        """Returns the constructor's arguments, fit for JSON."""
        return {"key": self.key, "axis": self.axis, "positions": self.positions.tolist()}

    @classmethod
    def from_config(cls, config: dict) -> "Member":
        """Returns the member that `config` describes."""
        return cls(config["key"], config["axis"], np.array(config["positions"], int))


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Channels that live and die together in all members.

    The channels of a group are independent of each other: any of them can be removed. Removing
    channel `c` removes the entries `positions[c]` of every member.

    Args:
        name: String, the path of the layer that makes the channels first.
        width: Integer > 0, the number of channels.
        kernels: Tuple of `Member`, the weights whose outputs the channels are.
        companions: Tuple of `Member` that are masked with a channel, but never count as
            kernels: biases, the scale and shift of norms, the moving mean of norms without
            scale. If they and the kernels are zero, then the channel is zero.
        readers: Tuple of `Member` that disappear with a channel but are not masked: the weights
            that multiply it, and moving variances.

    Example:

    >>> every = np.arange(3)[:, None]
    >>> group = Group("hidden", 3, (Member("k", 1, every),), (Member("b", 0, every),))
    >>> group.masks(np.array([True, False, True]), {"k": (2, 3), "b": (3,)})
    {'k': array([[ True, False,  True],
           [ True, False,  True]]), 'b': array([ True, False,  True])}
    """

    name: str
    width: int
    kernels: tuple[Member, ...]
    companions: tuple[Member, ...] = ()
    readers: tuple[Member, ...] = ()

    def get_config(self) -> dict:
        """Returns the constructor's arguments, fit for JSON."""
        members = {role: [m.get_config() for m in getattr(self, role)] for role in ROLES}
        return {"name": self.name, "width": self.width, **members}

    @classmethod
    def from_config(cls, config: dict) -> "Group":
        """Returns the group that `config` describes."""
        members = {role: tuple(map(Member.from_config, config[role])) for role in ROLES}
        return cls(config["name"], config["width"], **members)

    @property
    def members(self) -> tuple[Member, ...]:
        """All kernels, companions and readers."""
        return (*self.kernels, *self.companions, *self.readers)

    def as_matrix(self, values: dict[str, np.ndarray]) -> np.ndarray:
        """Returns the weights of all kernels as one matrix, one column for each channel.

        Args:
            values: Dict of keys to arrays. Others than those of the kernels are not used.

        Returns:
            Array of shape `(weights of a channel, width)`.
        """
        return np.concatenate([_rows(member, values[member.key]) for member in self.kernels])

    def from_matrix(
        self, matrix: np.ndarray, values: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Does the reverse of `as_matrix`.

        Args:
            matrix: Array of the shape that `as_matrix` returns.
            values: Dict of the keys of the kernels to arrays, which give the shapes, and the
                values of those parts of the kernels that belong to other groups.

        Returns:
            Dict of the keys of the kernels to new arrays of the matrix' data type.
        """
        arrays: dict = {}
        start = 0
        for member in self.kernels:
            if member.key not in arrays:
                arrays[member.key] = np.array(values[member.key], matrix.dtype)
            array = np.moveaxis(arrays[member.key], member.axis, 0)
            places = array[member.positions]
            stop = start + places.size // self.width
            array[member.positions] = matrix[start:stop].T.reshape(places.shape)
            start = stop
        return arrays

    def masks(self, kept: np.ndarray, shapes: dict[str, tuple]) -> dict[str, np.ndarray]:
        """Returns the masks of the kernels and companions.

        Args:
            kept: Boolean array of shape `(width,)`, true for the channels to keep.
            shapes: Dict of keys to the shapes of the variables.

        Returns:
            Dict of keys to boolean arrays, true outside the group.
        """
        masks: dict = {}
        for member in (*self.kernels, *self.companions):
            shape = shapes[member.key]
            line = np.ones(shape[member.axis], bool)
            line[member.positions[~kept]] = False
            line = line.reshape([-1 if i == member.axis else 1 for i in range(len(shape))])
            mask = masks.setdefault(member.key, np.ones(shape, bool))
            mask &= line
        return masks


class Accounting:
    """Counts the parameters and FLOPs that a choice of channels leaves.

    What is left of a variable is the product over its axes of the positions that are kept;
    positions that belong to no group always are. The multiply-accumulates of a kernel shrink by
    the same factor as its weights.

    Args:
        groups: List of `Group`.
        shapes: Dict of keys to shapes, of all variables that count as parameters.
        macs: Dict of keys to the multiply-accumulates that a kernel takes for one example.

    Example:

    >>> every = np.arange(3)[:, None]
    >>> group = Group("hidden", 3, (Member("k", 1, every),), (), (Member("r", 0, every),))
    >>> accounting = Accounting([group], {"k": (4, 3), "r": (3, 5)}, {"k": 12, "r": 15})
    >>> accounting.parameters({}), accounting.parameters({"hidden": 1})
    (27, 9)
    """

    def __init__(
        self, groups: list[Group], shapes: dict[str, tuple], macs: dict[str, int] | None = None
    ) -> None:
        self._groups = {group.name: i for i, group in enumerate(groups)}
        self._widths = np.array([group.width for group in groups], int)
        starts = np.cumsum([0, *(max(1, len(shape)) for shape in shapes.values())])
        # All axes of all variables one after another; scalars have one axis of length 1.
        self._lengths = np.concatenate([shape or (1,) for shape in shapes.values()]).astype(int)
        self._starts = starts[:-1]
        start_of = dict(zip(shapes, starts[:-1], strict=True))
        entries = [
            (start_of[m.key] + m.axis, i, m.positions.shape[1])
            for i, group in enumerate(groups)
            for m in group.members
        ]
        self._axes, self._owners, self._counts = np.array(entries, int).reshape(-1, 3).T
        uses = [(macs or {}).get(key, 0) for key in shapes]
        sizes = np.multiply.reduceat(self._lengths, self._starts)
        self._macs_per_weight = np.array(uses) / np.maximum(sizes, 1)

    def parameters(self, kept: dict) -> int:
        """Returns the number of parameters left.

        Args:
            kept: Dict of names of groups to the number of channels to keep, or to a boolean
                array of them. Other groups keep all channels.
        """
        return int(self._sizes(kept).sum())

    def flops(self, kept: dict) -> int:
        """Returns the multiply-accumulates left.

        Args:
            kept: As in `parameters`.
        """
        return round(float(self._sizes(kept) @ self._macs_per_weight))

    def _sizes(self, kept):
        """Returns the number of entries left of every variable."""
        removed = np.zeros(len(self._widths), int)
        for name, channels in kept.items():
            i = self._groups[name]
            removed[i] = self._widths[i] - np.sum(channels)
        lengths = self._lengths.copy()
        np.subtract.at(lengths, self._axes, self._counts * removed[self._owners])
        return np.multiply.reduceat(lengths, self._starts)


def combined_masks(
    groups: list[Group], kept: dict[str, np.ndarray], shapes: dict[str, tuple]
) -> dict[str, np.ndarray]:
    """Returns the masks of all kernels and companions of several groups.

    Args:
        groups: List of `Group`. A variable can belong to several of them.
        kept: Dict of the names of groups to boolean arrays of shape `(width,)`. Other groups
            keep all channels.
        shapes: Dict of keys to the shapes of the variables.

    Returns:
        Dict of the keys of the kernels and companions of all groups to boolean arrays.

    Example:

    >>> first = Group("first", 1, (Member("k", 1, np.array([[0]])),))
    >>> second = Group("second", 1, (Member("k", 1, np.array([[1]])),))
    >>> combined_masks([first, second], {"second": np.array([False])}, {"k": (1, 2)})
    {'k': array([[ True, False]])}
    """
    masks: dict = {}
    for group in groups:
        channels = kept.get(group.name, np.ones(group.width, bool))
        for key, mask in group.masks(channels, shapes).items():
            masks[key] = masks[key] & mask if key in masks else mask
    return masks


def _rows(member, array):
    """Returns the weights of one kernel, one column for each channel."""
    channels = np.moveaxis(np.asarray(array), member.axis, 0)[member.positions]
    return channels.reshape(len(member.positions), -1).T
