"""Rules for attention: whole heads, and the widths of keys and values, can go."""

import math

import keras
import numpy as np

from tf_lottery._keras import all_layers
from tf_lottery.structured.graph import Channels
from tf_lottery.structured.rules.base import (
    COMPANION,
    KERNEL,
    READER,
    Edit,
    Rule,
    Use,
    shrink,
    to_numpy,
)
from tf_lottery.structured.rules.linear import is_changed, taken

MIXES = "attention mixes its channels"


class _Attention(Rule):
    """Attention of several heads.

    A head is a channel of the three projections that the output projection reads; a head
    without value is zero. So is each entry of a value, in all heads, and the products of
    queries and keys do without an entry in which both are zero.
    """

    is_shareable = False
    takes_extras = True
    takes_flags = True
    is_source = True
    selects_inputs = True

    def misfit(self, node):
        if len(node.outputs) != 1:
            return "its attention scores are outputs, too"
        if not {"query", "value"} <= set(node.named):
            return "it is called without a query and a value"
        is_plain = len(_projections(node.operation)["attention_output"].kernel.shape) == 3
        return "" if is_plain else "its outputs have several axes of channels"

    def left_alone(self, node):
        parts = _projections(node.operation).values()
        return "its kernels are quantized or have adapters" if any(map(is_changed, parts)) else ""

    def ties(self, node):
        return []

    def fixed(self, node):
        for x in node.extras:
            if x is not node.named.get("value") and x is not node.named.get("key"):
                yield x, "it is passed as an additional argument"

    def uses(self, node):
        parts = _projections(node.operation)
        query, key = node.named["query"], node.named.get("key", node.named["value"])
        inputs = {"query": query, "key": key, "value": node.named["value"], "gate": query}
        heads, widths = self._spaces(node.operation)
        uses = []
        for name, x in inputs.items():
            if name in parts:
                uses.append(Use(parts[name].kernel, 0, READER, x))
                uses += _uses_of_heads(parts[name], heads, widths[name])
        output, y = parts["attention_output"], node.outputs[0]
        uses.append(_of_heads(output.kernel, 0, READER, heads))
        uses.append(Use(output.kernel, 1, READER, widths["value"]))
        uses.append(Use(output.kernel, 2, KERNEL, y))
        if output.bias is not None:
            uses.append(Use(output.bias, 0, COMPANION, y))
        return uses

    def constants(self, node):
        output = _projections(node.operation)["attention_output"]
        is_zero = (to_numpy(output.kernel) == 0).all(axis=(0, 1))
        return np.where(is_zero, 0.0 if output.bias is None else to_numpy(output.bias), np.nan)

    def needs(self, node):
        tensors = [*node.inputs, *node.extras]
        needs = [np.zeros(x.width, bool) for x in tensors]
        readers = [use for use in self.uses(node) if use.axis == 0 and use.role == READER]
        for x, need in zip(tensors, needs, strict=True):
            kernels = [to_numpy(use.variable) for use in readers if use.channels is x]
            for kernel in kernels:
                need |= (kernel != 0).any(axis=(1, 2)) & (x.constants != 0)
            if not kernels:  # A mask of floats.
                need[:] = True
        return needs

    def changes(self, node):
        kept = self._live(node.operation)
        return super().changes(node) or not all(array.all() for array in kept.values())

    def edit(self, node):
        layer, y = node.operation, node.outputs[0]
        parts, kept = _projections(layer), self._live(layer)
        widths = {"query": "key", "key": "key", "value": "value", "gate": "value"}
        heads = {"query": "query", "gate": "query"}
        # Keras divides the queries by the square root of the key width.
        scale = math.sqrt(kept["key"].sum() / len(kept["key"]))
        uses = self.uses(node)
        weights = {}
        for name, width in widths.items():
            if name not in parts:
                continue
            factor = scale if name == "query" else 1.0
            [x] = [use.channels for use in uses if use.variable is parts[name].kernel][:1]
            rows = taken(node) if name == "query" else x.kept
            kernel = shrink(to_numpy(parts[name].kernel) * factor, 0, rows, x.needed)
            chosen = kept[f"{heads.get(name, 'value')} heads"], kept[width]
            weights[f"{name}.kernel"] = kernel[:, chosen[0]][..., chosen[1]]
            if parts[name].bias is not None:
                bias = to_numpy(parts[name].bias) * factor
                weights[f"{name}.bias"] = bias[chosen[0]][:, chosen[1]]
        output = parts["attention_output"]
        kernel = shrink(to_numpy(output.kernel), 2, y.kept, y.needed)
        weights["attention_output.kernel"] = kernel[kept["query heads"]][:, kept["value"]]
        if output.bias is not None:
            bias = shrink(to_numpy(output.bias), 0, y.kept, y.needed)
            weights["attention_output.bias"] = bias
        return Edit(self._config(kept, y), weights)

    def _config(self, kept, y):
        """Returns the changed entries of the layer's config."""
        return {
            "num_heads": int(kept["query heads"].sum()),
            "key_dim": int(kept["key"].sum()),
            "value_dim": int(kept["value"].sum()),
            "output_shape": int(y.kept.sum()),
        }

    def _live(self, layer):
        """Returns a dict of which heads, and which entries of keys and of values, matter.

        An entry of a value matters in a head if it is not always zero and the output reads it.
        One of a key matters if neither it nor that of the query is always zero. At least one
        always stays.
        """
        heads, keys, values = _live(_projections(layer))
        if keras.backend.backend() == "jax" and len(keys) == len(values):
            # The attention of JAX takes only keys and values of the same width.
            width = max(keys.sum(), values.sum())
            keys, values = _at_least(keys, width), _at_least(values, width)
        return {"query heads": heads, "value heads": heads, "key": keys, "value": values}

    def _spaces(self, layer):
        """Returns the `Channels` of the heads, and a dict of projections to those of widths."""
        heads = Channels((1, layer.num_heads), "float32", "heads")
        keys = Channels((1, layer.key_dim), "float32", "key width")
        values = Channels((1, layer.value_dim), "float32", "value width")
        return heads, {"query": keys, "key": keys, "value": values}


class _GroupedAttention(_Attention):
    """Attention whose keys and values are shared by several heads each.

    A channel is a head of the keys and values, with all heads of the queries that read it. The
    layer has a single width for keys and values.
    """

    def gathers(self, node):
        return False

    def unions(self, node):
        """Yields the queries and outputs, whose numbers of channels Keras takes to be the same."""
        every = np.arange(node.outputs[0].width)
        yield node.named["query"], every, node.outputs[0], every

    def _spaces(self, layer):
        heads = Channels((1, layer.num_key_value_heads), "float32", "heads")
        width = Channels((1, layer.head_dim), "float32", "head width")
        return heads, dict.fromkeys(["query", "key", "value", "gate"], width)

    def _config(self, kept, y):
        return {
            "num_query_heads": int(kept["query heads"].sum()),
            "num_key_value_heads": int(kept["value heads"].sum()),
            "head_dim": int(kept["key"].sum()),
        }

    def _live(self, layer):
        heads, keys, values = _live(_projections(layer))
        width = keys | values
        queries = heads.repeat(layer.num_query_heads // layer.num_key_value_heads)
        return {"query heads": queries, "value heads": heads, "key": width, "value": width}


def _projections(layer):
    """Returns a dict of the names of the layer's projections to `EinsumDense` layers."""
    kinds = keras.layers.EinsumDense
    return {sub.name: sub for sub in all_layers(layer) if isinstance(sub, kinds)}


def _live(parts):
    """Returns which heads of the values, entries of keys and entries of values matter."""
    queries, keys, values = (_moves(parts[name]) for name in ("query", "key", "value"))
    reads = (to_numpy(parts["attention_output"].kernel) != 0).any(axis=2)
    # Consecutive heads of queries share one of keys and values.
    queries, reads = (x.reshape(len(values), -1, x.shape[1]).any(axis=1) for x in (queries, reads))
    values &= reads
    heads = _at_least(values.any(axis=1), 1)
    keys = (queries & keys)[heads].any(axis=0)
    return heads, _at_least(keys, 1), _at_least(values[heads].any(axis=0), 1)


def _moves(projection):
    """Returns which entries of a projection, by head and width, are not always zero."""
    moves = (to_numpy(projection.kernel) != 0).any(axis=0)
    return moves if projection.bias is None else moves | (to_numpy(projection.bias) != 0)


def _at_least(kept, count):
    """Returns the kept entries, and the first ones of the others until there are enough."""
    kept = kept.copy()
    kept[np.flatnonzero(~kept)[: max(0, count - kept.sum())]] = True
    return kept


def _uses_of_heads(projection, heads, width):
    kernel, bias = projection.kernel, projection.bias
    uses = [_of_heads(kernel, 1, KERNEL, heads), Use(kernel, 2, KERNEL, width)]
    if bias is None:
        return uses
    return [*uses, _of_heads(bias, 0, COMPANION, heads), Use(bias, 1, COMPANION, width)]


def _of_heads(variable, axis, role, heads):
    """Returns the `Use` of an axis of heads, of which consecutive ones may share a channel."""
    positions = np.arange(variable.shape[axis])
    return Use(variable, axis, role, heads, positions, positions * heads.width // len(positions))


RULES = {
    keras.layers.MultiHeadAttention: _Attention(),
    keras.layers.GroupQueryAttention: _GroupedAttention(),
}
