"""Smaller models without the units and channels that pruning left dead."""

from tf_lottery.export.compaction._compact import compact as compact
from tf_lottery.export.compaction.report import CompactionReport as CompactionReport
from tf_lottery.export.compaction.report import LayerRow as LayerRow
