"""The table of rules: which one belongs to which kind of layer."""

import keras

from tf_lottery._keras import is_operation_of_ops
from tf_lottery.structured.rules import (
    attention,
    channelwise,
    einsum,
    joins,
    linear,
    operations,
    recurrent,
)

_RULES = {
    **linear.RULES,
    **recurrent.RULES,
    **attention.RULES,
    **channelwise.RULES,
    **joins.RULES,
    **einsum.RULES,
}
_OPERATIONS = {**channelwise.OPERATIONS, **joins.OPERATIONS, **operations.OPERATIONS}
_MIXING = (
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
    keras.layers.Softmax,
    keras.layers.UnitNormalization,
)
_ATTENTION = (keras.layers.AdditiveAttention, keras.layers.Attention)
NOT_PLAIN = "it is called with other values than tensors, or always as in training"


def lookup(operation, rules=None):
    """Returns the `Rule` for a kind of layer or operation, `None` if there is none.

    Args:
        operation: The `keras.Layer` or `keras.Operation`.
        rules: Dict of more layer classes to rules. Defaults to `None`.
    """
    # The exact class decides, since a subclass may compute anything.
    rule = (rules or {}).get(type(operation)) or _RULES.get(type(operation))
    # The classes of operations are not public, so that only their names can be compared.
    if rule is None and is_operation_of_ops(operation):
        rule = _OPERATIONS.get(type(operation).__name__)
    return rule


def mixes_channels(operation):
    """Returns whether a layer is of a kind that is known to mix its channels."""
    return isinstance(operation, _MIXING + _ATTENTION)


def is_opened(operation, rules=None):
    """Returns whether to look for the channels of a layer in the calls inside it.

    Args:
        operation: The `keras.Layer` or `keras.Operation`.
        rules: As in `lookup`. Defaults to `None`.
    """
    is_known = lookup(operation, rules) is not None or mixes_channels(operation)
    return isinstance(operation, keras.Layer) and not is_known


def find_rule(node, rules=None):
    """Finds the rule for a call, by which its channels are tied to others.

    Args:
        node: A `Node`.
        rules: Dict of more layer classes to rules. Defaults to `None`.

    Returns:
        Pair of a `Rule` and an empty string, or of `None` and the reason why there is none.
    """
    rule = lookup(node.operation, rules)
    if rule is None:
        return None, _unknown(node.operation)
    reason = _misfit(rule, node) if _is_plain(node, rule) else NOT_PLAIN
    return (None, reason) if reason else (rule, "")


def find_exact_rule(node):
    """Finds the rule for a call whose layer compaction can make smaller, or leave as it is.

    Args:
        node: A `Node`.

    Returns:
        As `find_rule`.
    """
    rule = lookup(node.operation)
    if rule is None and not isinstance(node.operation, keras.Model):
        reason = _unknown(node.operation)
    elif not _is_plain(node, rule):
        reason = NOT_PLAIN
    elif rule is None:
        reason = _misfit(rule, node)
    else:
        reason = rule.left_alone(node) or _misfit(rule, node)
    return (None, reason) if reason else (rule, "")


def _is_plain(node, rule):
    """Returns whether a rule, or none, allows for all that a call has besides its tensors."""
    takes_values = rule is not None and rule.takes_values
    takes_flags = rule is not None and rule.takes_flags
    return (takes_values or not node.values) and (takes_flags or not node.is_training)


def _unknown(operation):
    if isinstance(operation, _MIXING):
        return "it mixes its channels"
    if isinstance(operation, _ATTENTION):
        return attention.MIXES
    if isinstance(operation, keras.Model):
        return "it is a model whose graph of layers is not known"
    return f"there is no rule for {type(operation).__name__}"


def _misfit(rule, node):
    if node.extras and not (rule and rule.takes_extras):
        return "it is called with a mask or other tensors"
    if rule is None:
        return _unknown(node.operation)
    if getattr(node.operation, "data_format", "channels_last") != "channels_last":
        return "its channels are not on the last axis"
    if not node.outputs[0].width or (rule.reads_channels and not all(x.width for x in node.inputs)):
        return "the number of its channels is not known"
    return rule.misfit(node)
