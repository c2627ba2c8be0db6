"""The graph by which compaction makes a model smaller, with the rules of its calls."""

import collections

import keras

from tf_lottery._keras import all_layers
from tf_lottery.structured.graph import Graph
from tf_lottery.structured.rules.table import NOT_PLAIN, find_exact_rule, is_opened

OWN_WEIGHTS = "it computes with weights of its own; in Keras layers inside it they can be pruned"


def exact_graph(model):
    """Returns the graph of a model in which compaction knows all calls that it may change.

    Layers of other kinds are opened if nothing but layers inside them has weights.

    Args:
        model: A built model. The `call` of a subclassed one is followed.

    Returns:
        Pair of a `Graph`, whose nodes have their rules, and a dict of the nodes without a rule
        to the reason.

    Raises:
        ValueError: If the `call` of a subclassed model cannot be followed.

    Example:

    >>> graph, reasons = exact_graph(model)
    >>> [node.path for node in graph.nodes], reasons
    (['hidden', 'output'], {})
    """
    graph = Graph(model, is_opened, _objection)
    reasons, without_rule = {}, {}
    for node in graph.nodes:
        node.rule, reason = find_exact_rule(node)
        if node.rule is None:
            reasons[node] = graph.closed.get(id(node.operation), reason)
            without_rule.update(dict.fromkeys(_ids_inside(node.operation), reasons[node]))
    for node in graph.nodes:
        # A layer of which one call is not known stays as it is in all calls, with all inside it.
        around = [id(node.operation), *(id(owner.operation) for owner in node.owners)]
        known = [without_rule[key] for key in around if key in without_rule]
        if node.rule is not None and known:
            node.rule, reasons[node] = None, known[0]
    return graph, reasons


def _ids_inside(operation):
    """Returns the ids of an operation and of all layers and operations inside it."""
    is_layer = isinstance(operation, keras.Layer)
    inside = all_layers(operation) if is_layer else [operation]
    operations = [x for layer in inside for x in getattr(layer, "operations", ())]
    return {id(x) for x in [*inside, *operations]}


def shared_channels(graph):
    """Returns which tensors of several calls share their channels.

    A layer that is called several times reads and makes the same channels in all calls, and so
    does every call in a model that is called several times.

    Args:
        graph: A `Graph` whose nodes have their rules.

    Returns:
        List of lists of `Channels` of the same width.
    """
    calls = collections.defaultdict(list)
    for node in graph.nodes:
        is_alone = node.rule is not None and node.rule.is_shareable
        # A call of a wrapper has several nodes.
        key = (id(node.call), type(node.operation)) if is_alone else id(node.operation)
        calls[key].append([*node.inputs, *node.outputs, *node.extras])
    for model, inputs in graph.model_inputs.items():
        calls["inputs", model] = inputs
    shared = []
    for first, *others in calls.values():
        for i, x in enumerate(first if others else ()):
            same = [tensors[i] for tensors in others if i < len(tensors)]
            shared.append([x, *(y for y in same if y is not x and y.width == x.width)])
    return [tensors for tensors in shared if len(tensors) > 1]


def changed_layers(graph):
    """Returns the ids of opened layers that need to change, as channels inside them go.

    Args:
        graph: A `Graph` that is analyzed.
    """
    changed = set()
    for node in graph.nodes:
        if node.owners and node.rule and node.rule.changes(node):
            changed.update(id(owner.operation) for owner in node.owners)
    return changed


def has_own_weights(layer, scan):
    """Returns whether a layer computes with weights that are not those of layers inside it.

    Args:
        layer: A `keras.Layer`.
        scan: The `Scan` of its `call`.
    """
    layer, *inside = all_layers(layer)
    known = {id(variable) for sublayer in inside for variable in sublayer.weights}
    return any(id(variable) not in known for variable in layer.weights) or scan.uses_variables()


def _objection(call, scan):
    """Returns the reason why compaction does not replace a layer by the calls inside it."""
    if call.is_training:
        return NOT_PLAIN
    return OWN_WEIGHTS if has_own_weights(call.operation, scan) else ""
