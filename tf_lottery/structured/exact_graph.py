"""The graph by which compaction makes a model smaller, with the rules of its calls."""

import collections
import inspect

import keras

from tf_lottery._keras import all_layers
from tf_lottery.printable import listed
from tf_lottery.structured.graph import Graph
from tf_lottery.structured.rules.table import NOT_PLAIN, find_exact_rule, is_opened

OWN_WEIGHTS = "it computes with weights of its own; in Keras layers inside it they can be pruned"
NOT_CALLED = "weights inside it are in no call with its inputs at inference: {names}"
SETS_TRAINING = "its `call` sets `training` of layers inside it: {names}"


def exact_graph(model):
    """Returns the graph of a model in which compaction knows all calls that it may change.

    Layers of other kinds are opened if `objection` has none to it.

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
    graph = Graph(model, is_opened, _objection_to_call)
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


def objection(layer, scan):
    """Returns why a layer computes otherwise than the calls inside it, or an empty string.

    In calls outside of the layer its own weights, those that it reads itself and those that it
    uses only in training would be lost, and so would its own values of `training`, which Keras
    replaces whenever it is given the argument.

    Args:
        layer: A `keras.Layer`.
        scan: The `Scan` of its `call`.
    """
    called = {id(v) for call in scan.calls for v in getattr(call.operation, "variables", ())}
    weights = [*scan.read, *(v for v in layer.weights if id(v) not in called)]
    inside = {id(v) for sublayer in all_layers(layer)[1:] for v in sublayer.variables}
    if any(id(v) not in inside for v in weights):
        return OWN_WEIGHTS
    if weights:
        return NOT_CALLED.format(names=listed(list(dict.fromkeys(v.path for v in weights))))
    names = [call.operation.name for call in scan.calls if _sets_training(call)]
    return SETS_TRAINING.format(names=listed(names)) if names else ""


def _sets_training(call):
    """Returns whether a layer is called with a value of its own for `training`."""
    value = call.kwargs.get("training")
    if value is not False or not isinstance(call.operation, keras.Layer):
        return value is True
    # Keras itself adds the default value of the layer's `call`.
    parameter = inspect.signature(call.operation.call).parameters.get("training")
    return parameter is not None and parameter.default is None


def _objection_to_call(call, scan):
    """Returns the reason why compaction does not replace a layer by the calls inside it."""
    return NOT_PLAIN if call.is_training else objection(call.operation, scan)
