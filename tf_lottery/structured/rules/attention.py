"""Rules for attention: whole heads, and the widths of keys and values, can go."""

import keras
import numpy as np

from tf_lottery._keras import all_layers
from tf_lottery.structured.graph import Channels
from tf_lottery.structured.rules.base import COMPANION, KERNEL, READER, Rule, Use

MIXES = "attention mixes its channels"


class _Attention(Rule):
    """Attention of several heads.

    A head is a channel of the three projections that the output projection reads; a head
    without value is zero. So is each entry of a value, in all heads, and the products of
    queries and keys do without an entry in which both are zero.
    """

    takes_extras = True
    takes_flags = True
    selects_inputs = True

    def misfit(self, node):
        if len(node.outputs) != 1:
            return "its attention scores are outputs, too"
        if not {"query", "value"} <= set(node.named):
            return "it is called without a query and a value"
        is_plain = len(_projections(node.operation)["attention_output"].kernel.shape) == 3
        return "" if is_plain else "its outputs have several axes of channels"

    def left_alone(self, node):
        return MIXES

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

    def _spaces(self, layer):
        heads = Channels((1, layer.num_key_value_heads), "float32", "heads")
        width = Channels((1, layer.head_dim), "float32", "head width")
        return heads, dict.fromkeys(["query", "key", "value", "gate"], width)


def _projections(layer):
    """Returns a dict of the names of the layer's projections to `EinsumDense` layers."""
    kinds = keras.layers.EinsumDense
    return {sub.name: sub for sub in all_layers(layer) if isinstance(sub, kinds)}


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
