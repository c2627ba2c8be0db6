"""Sparse neural networks in Keras 3."""

import pathlib
import sys

from tf_lottery._version import __version__ as __version__

# The command `tf-lottery` imports this package before it knows whether it needs Keras. It
# imports what it uses itself, so that help comes at once and TensorFlow's notes can be
# silenced. `-m` stands in for the name while Python looks for `tf_lottery.__main__`.
if pathlib.PurePath((sys.argv or [""])[0]).stem not in ("tf-lottery", "-m"):
    from tf_lottery import callbacks as callbacks
    from tf_lottery import export as export
    from tf_lottery import layers as layers
    from tf_lottery import sparsity as sparsity
    from tf_lottery.export import ExportError as ExportError
    from tf_lottery.export import ExportReport as ExportReport
    from tf_lottery.export import export_tflite as export_tflite
    from tf_lottery.model import SparseModel as SparseModel
    from tf_lottery.model import prune as prune
    from tf_lottery.model import sparsify as sparsify
    from tf_lottery.model import strip as strip
    from tf_lottery.report import Summary as Summary
    from tf_lottery.report import summary as summary
    from tf_lottery.snapshot import Snapshot as Snapshot
    from tf_lottery.ticket import Ticket as Ticket
    from tf_lottery.ticket import TicketMatch as TicketMatch
