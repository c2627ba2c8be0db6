"""The channel groups of a model, as `tfl.channel_groups` returns them."""

import collections.abc
import dataclasses

from tf_lottery.printable import Printable, listed, plain_table
from tf_lottery.sparsity.groups import Accounting, Group

_SHOWN = 3


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelGroups(Printable, collections.abc.Sequence):
    """The channel groups of a model, a sequence of `Group`.

    Printing it shows a table. FLOPs are multiply-accumulates.

    Args:
        name: String, the model's name.
        groups: Tuple of `Group`.
        fixed: Dict of the reasons why channels must stay to a dict of the paths of layers to
            the number of their channels that stay for that reason.
        notes: Dict of names of groups to a list of what to know about them.
        shapes: Dict of the keys of all weights to their shapes.
        macs: Dict of the keys of kernels to the multiply-accumulates that they take for one
            example, empty if the shape of an example is not known.
    """

    name: str
    groups: tuple[Group, ...]
    fixed: dict
    notes: dict
    shapes: dict
    macs: dict

    def __len__(self):
        return len(self.groups)

    def __getitem__(self, index):
        """Returns the group at a position, or with a name."""
        if isinstance(index, str):
            return {group.name: group for group in self.groups}[index]
        return self.groups[index]

    @property
    def accounting(self):
        """An `Accounting` of the parameters and FLOPs that a choice of channels leaves."""
        return Accounting(list(self.groups), self.shapes, self.macs)

    def freed(self):
        """Returns a dict of names of groups to the parameters and FLOPs of one channel."""
        accounting = self.accounting
        parameters, flops = accounting.parameters({}), accounting.flops({})
        freed = {}
        for group in self.groups:
            kept = {group.name: group.width - 1}
            left = accounting.parameters(kept), accounting.flops(kept)
            freed[group.name] = parameters - left[0], flops - left[1]
        return freed

    def to_dict(self):
        """Returns the groups and reasons as plain values, fit for JSON, without positions."""
        groups = [
            {
                "name": group.name,
                "channels": group.width,
                "kernels": _keys(group.kernels),
                "companions": _keys(group.companions),
                "readers": _keys(group.readers),
                "parameters_per_channel": parameters,
                "flops_per_channel": flops,
                "notes": self.notes.get(group.name, []),
            }
            for group, (parameters, flops) in zip(self.groups, self.freed().values(), strict=True)
        ]
        return {"name": self.name, "groups": groups, "fixed": self.fixed}

    def __rich__(self):
        channels = sum(group.width for group in self.groups)
        title = f"{self.name}: {len(self.groups)} groups, {channels:,} channels"
        table = plain_table(title=title, title_justify="left")
        table.add_column("Group", overflow="fold")
        table.add_column("Channels", justify="right")
        table.add_column("Kernels", overflow="fold")
        for heading in ("Parameters of one", "FLOPs of one"):
            table.add_column(heading, justify="right")
        for group, (parameters, flops) in zip(self.groups, self.freed().values(), strict=True):
            flops_text = f"{flops:,}" if self.macs else "unknown"
            name = f"{group.name} *" if group.name in self.notes else group.name
            table.add_row(name, f"{group.width:,}", _short(group), f"{parameters:,}", flops_text)
        table.caption, table.caption_justify = "\n".join(self._lines()), "left"
        return table

    def _lines(self):
        """Returns the lines below the table."""
        lines = [f"* {name}: {notes[0]}" for name, notes in self.notes.items()]
        lines += ["Must stay:"] if self.fixed else []
        for reason, layers in self.fixed.items():
            lines.append(f"{listed(list(layers), _SHOWN)}: {reason}")
        return lines


def _keys(members):
    return list(dict.fromkeys(member.key for member in members))


def _short(group):
    """Returns the keys of a group's kernels, of many only the first ones."""
    keys = _keys(group.kernels)
    if len(keys) == 1:
        return keys[0]
    more = ", ..." if len(keys) > _SHOWN else ""
    return f"{len(keys)}: {', '.join(keys[:_SHOWN])}{more}"
