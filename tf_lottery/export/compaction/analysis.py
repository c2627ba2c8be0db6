"""Finds the channels of a model that are needed, and those that the smaller model keeps."""

import itertools

import numpy as np

from tf_lottery.structured.rules.table import find_exact_rule

PADDED = "{count} dead units stay for a width that {multiple_of} divides"
LAST = "it would have no units left, so one stays"
TIED = "{count} dead units stay because they are reshaped or joined with live ones"
CONSTANT = "{count} constant inputs stay: {reason}"


def analyze(graph, multiple_of=1, gather_inputs=False):
    """Fills in the `constants`, `needed` and `kept` channels of every tensor of a graph.

    One forward pass finds the constants, which depend only on the layers before. One backward
    pass then finds what is needed, which depends only on the layers after.

    Args:
        graph: A `Graph`.
        multiple_of: Integer that must divide the widths. Defaults to `1`.
        gather_inputs: Whether layers may select among the model's inputs. Defaults to `False`.

    Returns:
        Two dicts of paths of layers: to the reason why a layer is left alone, and to a list of
        reasons why dead or constant units stay.
    """
    left_alone, kept = {}, {}
    for node in graph.nodes:
        node.rule, reason = find_exact_rule(node)
        if not node.rule and any(x.width for x in node.inputs + node.extras + node.outputs):
            left_alone[node.path] = reason
    _find_constants(graph)
    _find_needs(graph, kept)
    _find_kept(graph, multiple_of, kept)
    if gather_inputs:
        _find_gathers(graph, multiple_of)
    return left_alone, kept


def _find_constants(graph):
    for node in graph.nodes:
        if node.rule:
            values = node.rule.constants(node)
            for x in node.outputs:
                x.constants = np.where(np.isfinite(values), values, np.nan)


def _find_needs(graph, kept):
    for x in graph.outputs:
        x.needed[:] = True
    for node in reversed(graph.nodes):
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


def _find_kept(graph, multiple_of, kept):
    for x in graph.inputs:
        x.kept[:] = x.given[:] = True
    for node in graph.nodes:
        for x in [*node.inputs, *node.extras, *node.outputs]:
            x.kept |= x.needed
        if not node.rule:
            for x in node.outputs:
                x.kept[:] = True
    _spread(graph.nodes)
    sources = [node for node in graph.nodes if node.rule and node.rule.is_source]
    tied = {}
    for node in sources:
        x = node.outputs[0]
        tied[node.path] = x.kept.sum()
        if tied[node.path] > x.needed.sum():
            _note(kept, node, TIED.format(count=tied[node.path] - x.needed.sum()))
    _round_up([node.outputs[0] for node in sources], graph.nodes, multiple_of)
    for node in sources:
        count = node.outputs[0].kept.sum() - tied[node.path]
        if not tied[node.path]:
            _note(kept, node, LAST)
        elif count:
            _note(kept, node, PADDED.format(count=count, multiple_of=multiple_of))


def _round_up(sources, nodes, multiple_of):
    """Keeps dead units until every width is at least 1 and, if possible, a multiple."""
    changed = True
    while changed:
        changed = False
        for x in sources:
            missing = _num_missing(x.kept, multiple_of)
            if missing:
                x.kept[np.flatnonzero(~x.kept)[:missing]] = True
                changed = True
                _spread(nodes)


def _num_missing(kept, multiple_of):
    count = max(1, kept.sum())
    return min(len(kept), -(-count // multiple_of) * multiple_of) - kept.sum()


def _spread(nodes):
    """Keeps all channels that are tied to kept ones, and passes on which ones are inputs."""
    before = -1
    while before != (before := _num_kept(nodes)):
        for node in [*nodes, *reversed(nodes)]:
            for x, i, y, o in node.rule.unions(node) if node.rule else ():
                np.logical_or.at(y.kept, o, x.kept[i])
                np.logical_or.at(x.kept, i, y.kept[o])
                np.logical_or.at(y.given, o, x.given[i])


def _num_kept(nodes):
    tensors = ([*node.inputs, *node.extras, *node.outputs] for node in nodes)
    return sum(int(x.kept.sum()) for x in itertools.chain.from_iterable(tensors))


def _find_gathers(graph, multiple_of):
    for node in graph.nodes:
        if node.rule and node.rule.selects_inputs:
            x = node.inputs[0]
            chosen = x.kept & (x.needed | ~x.given)
            chosen[np.flatnonzero(x.kept & ~chosen)[: _num_missing(chosen, multiple_of)]] = True
            if not chosen[x.kept].all():
                node.gathered = chosen


def _note(kept, node, reason):
    kept.setdefault(node.path, []).append(reason)
