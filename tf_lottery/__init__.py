"""Sparse neural networks in Keras 3."""

from tf_lottery import callbacks as callbacks
from tf_lottery import layers as layers
from tf_lottery import sparsity as sparsity
from tf_lottery._version import __version__ as __version__
from tf_lottery.model import SparseModel as SparseModel
from tf_lottery.model import prune as prune
from tf_lottery.model import sparsify as sparsify
from tf_lottery.model import strip as strip
from tf_lottery.report import Summary as Summary
from tf_lottery.report import summary as summary
from tf_lottery.snapshot import Snapshot as Snapshot
from tf_lottery.ticket import Ticket as Ticket
from tf_lottery.ticket import TicketMatch as TicketMatch
