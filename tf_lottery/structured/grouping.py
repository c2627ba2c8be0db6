"""Finds the channel groups of a model's graph."""

import collections

import numpy as np

from tf_lottery.sparsity.groups import Group, Member
from tf_lottery.structured.components import components
from tf_lottery.structured.rules.base import COMPANION, KERNEL, READER
from tf_lottery.structured.rules.table import find_rule

IS_OUTPUT = "an output of the model"
IS_INPUT = "they are tied to an input of the model"
CONSTANT = "{path} reads constants other than 0 in their place"


class Grouping:
    """The channel groups of a graph.

    Every channel of every tensor, and every position on an axis of a variable, is an item. Items
    that can only be removed together are connected. A connected component is one channel of a
    group, and components with equally many positions on the same axes form a group.

    Args:
        graph: A `Graph`.
        keys: Dict of the ids of variables to their keys.
        rules: Dict of layer classes to rules, besides those of the library. Defaults to `None`.

    Attributes:
        groups: List of `Group`.
        fixed: Dict of reasons to a dict of the paths of layers to the number of their output
            channels that must stay for that reason.
        notes: Dict of names of groups to lists of strings.
    """

    def __init__(self, graph, keys, rules=None):
        self._keys = keys
        self._count = 0
        self._starts = {}
        # The first entry, which connects nothing, is for models in which nothing is tied.
        self._pairs = [(np.arange(0), np.arange(0))]
        self._fixed = []
        # The uses by axis of a variable: the first use of the strongest role, and its path.
        self._axes = {}
        self._opaque = {}
        self._tensors = []
        for node in graph.nodes:
            node.rule, reason = find_rule(node, rules)
            self._add(node, graph.closed.get(id(node.operation), reason))
        for channels, reason in [
            *((x, IS_OUTPUT) for x in graph.outputs),
            *((x, IS_INPUT) for x in graph.inputs),
        ]:
            self._fixed.insert(0, (self._items(channels), reason))
        self._fix_opaque()
        first, second = (np.concatenate(ends) for ends in zip(*self._pairs, strict=True))
        self._labels = components(self._count, first, second)
        reasons = self._reasons()
        self.groups, self._names = self._make_groups(reasons)
        self.fixed = self._count_fixed(reasons)
        self.notes = self._find_constants(graph)

    def _items(self, channels):
        """Returns the items of the channels of a tensor."""
        return self._start(id(channels), channels.width) + np.arange(channels.width)

    def _start(self, key, width):
        if key not in self._starts:
            self._starts[key] = self._count
            self._count += width
        return self._starts[key]

    def _add(self, node, reason):
        if node.rule is None:
            self._opaque[id(node.operation)] = node.operation, f"{node.path}: {reason}"
            for x in [*node.inputs, *node.extras, *node.outputs]:
                self._fixed.append((self._items(x), f"{node.path}: {reason}"))
            return
        for x, i, y, o in node.rule.unions(node):
            self._pairs.append((self._items(x)[i], self._items(y)[o]))
        for x, why in node.rule.fixed(node):
            self._fixed.append((self._items(x), f"{node.path}: {why}"))
        for use in node.rule.uses(node):
            self._add_use(use, node.path)

    def _add_use(self, use, path):
        variable, axis = use.variable, use.axis
        positions, owners = use.pairs()
        start = self._start((id(variable), axis), variable.shape[axis])
        self._tensors.append(use.channels)
        self._pairs.append((start + positions, self._items(use.channels)[owners]))
        order = (KERNEL, COMPANION, READER)
        name = f"{path}/{use.channels.label}" if use.channels.label else path
        known = self._axes.setdefault((id(variable), axis), (variable, use.role, name))
        if order.index(use.role) < order.index(known[1]):
            self._axes[id(variable), axis] = variable, use.role, name

    def _fix_opaque(self):
        """Fixes all axes of variables that a layer uses for which there is no rule."""
        opaque = {
            id(variable): reason
            for operation, reason in self._opaque.values()
            for variable in getattr(operation, "variables", ())
        }
        for (key, axis), (variable, _, _) in self._axes.items():
            if key in opaque:
                start = self._starts[key, axis]
                self._fixed.append((start + np.arange(variable.shape[axis]), opaque[key]))

    def _reasons(self):
        """Returns a dict of the labels of channels that must stay to the reason."""
        reasons = {}
        for items, reason in self._fixed:
            for label in np.unique(self._labels[items]):
                reasons.setdefault(int(label), reason)
        return reasons

    def _members_by_label(self):
        """Returns a dict of labels to dicts of axes of variables to positions."""
        found = collections.defaultdict(dict)
        for key, (variable, _, _) in self._axes.items():
            start, length = self._starts[key], variable.shape[key[1]]
            labels = self._labels[start : start + length]
            order = np.argsort(labels, kind="stable")
            distinct, firsts = np.unique(labels[order], return_index=True)
            for label, positions in zip(distinct, np.split(order, firsts[1:]), strict=True):
                found[int(label)][key] = positions
        return found

    def _make_groups(self, reasons):
        """Returns the groups, and a dict of labels to the names of their groups."""
        classes = collections.defaultdict(list)
        for label, members in self._members_by_label().items():
            has_kernel = any(self._axes[key][1] == KERNEL for key in members)
            if has_kernel and label not in reasons:
                signature = tuple((key, len(positions)) for key, positions in members.items())
                classes[signature].append((label, members))
        groups, names, counts = [], {}, collections.Counter()
        for channels in classes.values():
            group = self._make_group([members for _, members in channels])
            counts[group[0]] += 1
            name = group[0] if counts[group[0]] == 1 else f"{group[0]}#{counts[group[0]]}"
            groups.append(Group(name, len(channels), *group[1:]))
            names.update(dict.fromkeys((label for label, _ in channels), name))
        return groups, names

    def _make_group(self, channels):
        """Returns the path of a group, and its kernels, companions and readers."""
        roles = {KERNEL: [], COMPANION: [], READER: []}
        path = None
        for key in channels[0]:
            variable, role, name = self._axes[key]
            positions = np.stack([members[key] for members in channels])
            roles[role].append(Member(self._keys[id(variable)], key[1], positions))
            if role == KERNEL and path is None:
                path = name
        return path, *map(tuple, roles.values())

    def _count_fixed(self, reasons):
        """Returns how many output channels of each layer must stay, by reason."""
        fixed = collections.defaultdict(lambda: collections.defaultdict(set))
        for (key, axis), (variable, role, name) in self._axes.items():
            if role == KERNEL:
                start = self._starts[key, axis]
                labels = np.unique(self._labels[start : start + variable.shape[axis]])
                for label in set(labels.tolist()) & reasons.keys():
                    # Several kernels of a layer can make the same channels.
                    fixed[reasons[label]][name].add(label)
        return {
            reason: {name: len(labels) for name, labels in layers.items()}
            for reason, layers in fixed.items()
        }

    def _find_constants(self, graph):
        """Returns which layers read a constant other than 0 where a group is pruned."""
        zeros = {id(x): np.zeros(x.width, bool) for x in graph.inputs}
        notes = {}
        for node in graph.nodes:
            given = [zeros[id(x)] for x in node.inputs]
            zero = np.zeros(node.outputs[0].width, bool)
            if node.rule:
                zero = node.rule.zeros(node, given)
                if node.rule.selects_inputs:
                    self._note_constants(node, given, notes)
            for y in node.outputs:
                same = zero if y.width == len(zero) else np.full(y.width, zero.all())
                zeros[id(y)] = same
        return notes

    def _note_constants(self, node, given, notes):
        for x, zero in zip(node.inputs, given, strict=True):
            labels = np.unique(self._labels[self._items(x)[~zero]])
            for name in dict.fromkeys(self._names.get(int(label)) for label in labels):
                if name is not None:
                    notes.setdefault(name, []).append(CONSTANT.format(path=node.path))
