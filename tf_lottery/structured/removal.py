"""Which channel groups of a model its compaction cannot remove, and why."""

import collections

from tf_lottery import _keras
from tf_lottery.structured.exact_graph import exact_graph
from tf_lottery.structured.rules.table import find_rule


def reasons_to_stay(layer, groups, members):
    """Returns why the pruned channels of some groups stay in the smaller model.

    A group stays if one of its members or tensors belongs to a call that compaction leaves alone.

    Args:
        layer: A built Keras model.
        groups: List of `Group`.
        members: Dict of the keys of the members of groups to variables.

    Returns:
        Dict of the names of groups to strings.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6, name="first")])
    >>> model.add(keras.layers.Lambda(lambda x: ops.concatenate(ops.split(x, 2, axis=-1), axis=-1)))
    >>> model.add(keras.layers.Dense(2))
    >>> sparse = tfl.sparsify(model, pattern="channel")
    >>> list(reasons_to_stay(model, sparse.groups, sparse.wrapper.named_members()))
    ['first']
    """
    with _keras.kept_random_state():
        graph, without_rule = exact_graph(layer)
    return reasons_in_graph(graph, without_rule, groups, members)


def reasons_in_graph(graph, without_rule, groups, members):
    """As `reasons_to_stay`, for what `exact_graph` returns."""
    owners, reasons = collections.defaultdict(set), {}
    for group in groups:
        for member in group.members:
            variable = id(members[member.key])
            owners[variable].add(group.name)
            owners[variable, member.axis].add(group.name)
    # The names of the groups that the channels of a tensor belong to, by the tensor's id.
    reached = collections.defaultdict(set)
    for node in graph.nodes:
        _pass_on(node, owners, reached)
        if node in without_rule:
            keys = [id(variable) for variable in getattr(node.operation, "variables", ())]
            tensors = [*node.inputs, *node.extras, *node.outputs]
            names = [owners[key] for key in keys] + [reached[id(x)] for x in tensors]
            for name in sorted(set().union(*names)):
                reasons.setdefault(name, f"{node.path}: {without_rule[node]}")
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
