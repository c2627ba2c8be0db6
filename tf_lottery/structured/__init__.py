"""Channels across layers: the graph of a model, and which channels belong together."""

from tf_lottery.structured._channel_groups import channel_groups as channel_groups
from tf_lottery.structured.report import ChannelGroups as ChannelGroups
from tf_lottery.structured.rules.base import Rule as Rule
from tf_lottery.structured.rules.base import Use as Use
