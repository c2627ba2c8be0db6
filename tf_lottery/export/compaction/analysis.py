"""Finds the channels of a model that are needed, and those that the smaller model keeps."""

import collections
import itertools

import numpy as np

from tf_lottery.structured.exact_graph import shared_channels

PADDED = "{count} dead units stay for a width that {multiple_of} divides"
LAST = "it would have no units left, so one stays"
TIED = "{count} dead units stay because they are reshaped or joined with live ones"
CONSTANT = "{count} constant inputs stay: {reason}"


def analyze(graph, multiple_of=1, gather_inputs=False):
    """Fills in the `constants`, `needed` and `kept` channels of every tensor of a graph.

    A forward pass finds the constants, which depend only on the layers before. A backward
    pass then finds what is needed, which depends only on the layers after. Both are repeated
    until all calls of shared layers agree.

    Args:
        graph: A `Graph` whose nodes have their rules.
        multiple_of: Integer that must divide the widths. Defaults to `1`.
        gather_inputs: Whether layers may select among the model's inputs. Defaults to `False`.

    Returns:
        Dict of paths of layers to a list of reasons why dead or constant units stay.
    """
    shared = shared_channels(graph)
    _find_constants(graph, shared)
    kept = _find_needs(graph, shared)
    _find_kept(graph, shared, multiple_of, kept)
    if gather_inputs:
        _find_gathers(graph, multiple_of)
    return kept


def _find_constants(graph, shared):
    # Constants that differ between the calls of a layer, by the ids of tensors.
    varies = {id(x): np.zeros(x.width, bool) for tensors in shared for x in tensors}
    while True:
        for node in graph.nodes:
            if node.rule:
                values = node.rule.constants(node)
                for x in node.outputs:
                    is_known = np.isfinite(values) & ~varies.get(id(x), False)
                    x.constants = np.where(is_known, values, np.nan)
        before = sum(array.sum() for array in varies.values())
        for tensors in shared:
            values = np.stack([x.constants for x in tensors])
            for x in tensors:
                varies[id(x)] |= (values != values[0]).any(axis=0)  # NaN differs from NaN.
        if before == sum(array.sum() for array in varies.values()):
            return


def _find_needs(graph, shared):
    """Marks what the outputs depend on, and returns why constants among it stay."""
    for x in graph.outputs:
        x.needed[:] = True
    before = -1
    while before != (before := _count(graph.nodes, "needed")):
        kept = {}
        for node in reversed(graph.nodes):
            _find_needs_of(node, graph, kept)
        _agree(shared, "needed")
    return kept


def _find_needs_of(node, graph, kept):
    pin = node.rule.pin(node.operation) if node.rule else ""
    if pin:
        if not any(x in graph.outputs for x in node.outputs):
            _note(kept, node, pin)
        for x in node.outputs:
            x.needed[:] = True
    needs = []
    if node.rule:
        needed = node.rule.needed_outputs(node)
        for x in node.outputs:
            x.needed |= needed
        needs = node.rule.needs(node)
        _note_constants(node, needs, kept)
    tensors = [*node.inputs, *node.extras]
    needs = needs + [np.True_] * (len(tensors) - len(needs))
    for x, need in zip(tensors, needs, strict=True):
        x.needed |= need


def _agree(shared, name):
    """Sets a property of the channels of shared layers if it is set in any call."""
    for tensors in shared:
        either = np.logical_or.reduce([getattr(x, name) for x in tensors])
        for x in tensors:
            getattr(x, name)[:] = either


def _note_constants(node, needs, kept):
    """Notes the inputs that are needed although their values are known constants."""
    pairs = zip(node.inputs, needs, strict=False)  # The arrays of extras may follow.
    blocked = [need & ~np.isnan(x.constants) for x, need in pairs]
    is_known = ~np.isnan(node.outputs[0].constants)
    for block, (i, o) in zip(blocked, node.rule.ties(node), strict=False):
        # If the output is constant too, it is noted at a later layer.
        block[i[is_known[o]]] = False
    count = sum(map(np.count_nonzero, blocked))
    if count:
        _note(kept, node, CONSTANT.format(count=count, reason=node.rule.keeps))


def _find_kept(graph, shared, multiple_of, kept):
    for x in graph.inputs:
        x.kept[:] = x.given[:] = True
    for node in graph.nodes:
        for x in [*node.inputs, *node.extras, *node.outputs]:
            x.kept |= x.needed
        if not node.rule:
            for x in node.outputs:
                x.kept[:] = True
    _spread(graph.nodes, shared)
    sources = [node for node in graph.nodes if node.rule and node.rule.is_source]
    tied = {}
    for node in sources:
        x = node.outputs[0]
        tied[node.path] = x.kept.sum()
        if tied[node.path] > x.needed.sum():
            _note(kept, node, TIED.format(count=tied[node.path] - x.needed.sum()))
    _round_up([node.outputs[0] for node in sources], graph.nodes, shared, multiple_of)
    for node in sources:
        count = node.outputs[0].kept.sum() - tied[node.path]
        if not tied[node.path]:
            _note(kept, node, LAST)
        elif count:
            _note(kept, node, PADDED.format(count=count, multiple_of=multiple_of))


def _round_up(sources, nodes, shared, multiple_of):
    """Keeps dead units until every width is at least 1 and, if possible, a multiple."""
    changed = True
    while changed:
        changed = False
        for x in sources:
            missing = _num_missing(x.kept, multiple_of)
            if missing:
                x.kept[np.flatnonzero(~x.kept)[:missing]] = True
                changed = True
                _spread(nodes, shared)


def _num_missing(kept, multiple_of):
    count = max(1, kept.sum())
    return min(len(kept), -(-count // multiple_of) * multiple_of) - kept.sum()


def _spread(nodes, shared):
    """Keeps all channels that are tied to kept ones, and passes on which ones are inputs."""
    before = -1
    while before != (before := _count(nodes, "kept")):
        _agree(shared, "kept")
        _agree(shared, "given")
        for node in [*nodes, *reversed(nodes)]:
            for x, i, y, o in node.rule.unions(node) if node.rule else ():
                np.logical_or.at(y.kept, o, x.kept[i])
                np.logical_or.at(x.kept, i, y.kept[o])
                np.logical_or.at(y.given, o, x.given[i])


def _count(nodes, name):
    """Returns how many channels of all tensors have a property."""
    tensors = ([*node.inputs, *node.extras, *node.outputs] for node in nodes)
    return sum(int(getattr(x, name).sum()) for x in itertools.chain.from_iterable(tensors))


def _find_gathers(graph, multiple_of):
    calls = collections.Counter(id(node.operation) for node in graph.nodes)
    for node in graph.nodes:
        # Not in several calls, which may read other inputs, and not inside a wrapper.
        is_single = calls[id(node.operation)] == 1 and node.call.operation is node.operation
        if node.rule and node.rule.gathers(node) and is_single:
            x = node.inputs[0]
            chosen = x.kept & (x.needed | ~x.given)
            chosen[np.flatnonzero(x.kept & ~chosen)[: _num_missing(chosen, multiple_of)]] = True
            if not chosen[x.kept].all():
                node.gathered = chosen


def _note(kept, node, reason):
    kept.setdefault(node.path, []).append(reason)
