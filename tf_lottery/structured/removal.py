"""Which channel groups of a model its compaction cannot remove, and why."""

import collections

from tf_lottery.structured.graph import Graph, is_graph
from tf_lottery.structured.rules.table import find_exact_rule, find_rule


def reasons_to_stay(layer, groups, members):
    """Returns why the pruned channels of some groups stay in the smaller model.

    A group stays if one of its members or tensors belongs to a call that compaction leaves alone.

    Args:
        layer: A built Keras model. There are no reasons if it is subclassed, since compaction
            refuses it.
        groups: List of `Group`.
        members: Dict of the keys of the members of groups to variables.

    Returns:
        Dict of the names of groups to strings.

    Example:

    >>> model = keras.Sequential([keras.Input((4, 6)), keras.layers.Conv1D(4, 1, name="first")])
    >>> for layer in (keras.layers.Conv1D(4, 1, groups=2, name="grouped"), keras.layers.Dense(2)):
    ...     model.add(layer)
    >>> sparse = tfl.sparsify(model, pattern="channel")
    >>> found = reasons_to_stay(model, sparse.groups, sparse.wrapper.named_members())
    >>> sorted(found)
    ['first', 'grouped']
    """
    if not is_graph(layer):
        return {}
    owners, reasons = collections.defaultdict(set), {}
    for group in groups:
        for member in group.members:
            variable = id(members[member.key])
            owners[variable].add(group.name)
            owners[variable, member.axis].add(group.name)
    # The names of the groups that the channels of a tensor belong to, by the tensor's id.
    reached = collections.defaultdict(set)
    for node in Graph(layer).nodes:
        _pass_on(node, owners, reached)
        rule, reason = find_exact_rule(node)
        if rule is None:
            keys = [id(variable) for variable in getattr(node.operation, "variables", ())]
            tensors = [*node.inputs, *node.extras, *node.outputs]
            names = [owners[key] for key in keys] + [reached[id(x)] for x in tensors]
            for name in sorted(set().union(*names)):
                reasons.setdefault(name, f"{node.path}: {reason}")
    return reasons


def _pass_on(node, owners, reached):
    """Adds the groups of the tensors of a call to `reached`."""
    rule, _ = find_rule(node)
    if rule is None:
        return
    for use in rule.uses(node):
        reached[id(use.channels)] |= owners[id(use.variable), use.axis]
    for x, _, y, _ in rule.unions(node):
        reached[id(y)] |= reached[id(x)]
