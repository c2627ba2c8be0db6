"""The table of rules: which one belongs to which kind of layer."""

import keras

from tf_lottery._keras import is_operation_of_ops
from tf_lottery.structured.rules import channelwise, joins, linear

_RULES = {**linear.RULES, **channelwise.RULES, **joins.RULES}
_OPERATIONS = {**channelwise.OPERATIONS, **joins.OPERATIONS}
_MIXING = (
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
    keras.layers.Softmax,
    keras.layers.UnitNormalization,
)
_ATTENTION = (
    keras.layers.AdditiveAttention,
    keras.layers.Attention,
    keras.layers.GroupQueryAttention,
    keras.layers.MultiHeadAttention,
)


def find_rule(node):
    """Finds the rule for a call.

    Args:
        node: A `Node`.

    Returns:
        Pair of a `Rule` and an empty string, or of `None` and the reason why there is none.
    """
    operation = node.operation
    # The exact class decides, since a subclass may compute anything.
    rule = _RULES.get(type(operation))
    # The classes of operations are not public, so that only their names can be compared.
    if rule is None and is_operation_of_ops(operation):
        rule = _OPERATIONS.get(type(operation).__name__)
    if rule is None and not isinstance(operation, keras.Model):
        reason = _unknown(operation)
    else:
        reason = _special_call(rule, node) or _misfit(rule, node)
    return (None, reason) if reason else (rule, "")


def _unknown(operation):
    if isinstance(operation, _MIXING):
        return "it mixes its channels"
    if isinstance(operation, _ATTENTION):
        return "attention mixes its channels"
    return f"there is no rule for {type(operation).__name__}"


def _special_call(rule, node):
    if not node.is_plain:
        return "it is called with other values than tensors, or always as in training"
    if node.is_shared and not (rule and rule.is_shareable):
        return "it has several calls, which share its weights"
    if node.extras and not (rule and rule.takes_extras):
        return "it is called with a mask or other tensors"
    return ""


def _misfit(rule, node):
    if rule is None:
        return "it is a model whose graph of layers is not known"
    if getattr(node.operation, "data_format", "channels_last") != "channels_last":
        return "its channels are not on the last axis"
    if not node.outputs[0].width or (rule.reads_channels and not all(x.width for x in node.inputs)):
        return "the number of its channels is not known"
    return rule.misfit(node)
