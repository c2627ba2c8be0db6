"""Callbacks for `fit`, one for each algorithm."""

from tf_lottery.callbacks.activation_annealing import ActivationAnnealing as ActivationAnnealing
from tf_lottery.callbacks.base import SparsityCallback as SparsityCallback
from tf_lottery.callbacks.continuous_sparsification import (
    ContinuousSparsification as ContinuousSparsification,
)
from tf_lottery.callbacks.distillation_stop import DistillationStop as DistillationStop
from tf_lottery.callbacks.dynamic_sparse_training import (
    DynamicSparseTraining as DynamicSparseTraining,
)
from tf_lottery.callbacks.early_bird import EarlyBird as EarlyBird
from tf_lottery.callbacks.early_stop_iteration import EarlyStopIteration as EarlyStopIteration
from tf_lottery.callbacks.ghost_skip_annealing import GhostSkipAnnealing as GhostSkipAnnealing
from tf_lottery.callbacks.gradual_magnitude_pruning import (
    GradualMagnitudePruning as GradualMagnitudePruning,
)
from tf_lottery.callbacks.iterative_magnitude_pruning import (
    IterativeMagnitudePruning as IterativeMagnitudePruning,
)
from tf_lottery.callbacks.rigl import RigL as RigL
from tf_lottery.callbacks.set import SET as SET
from tf_lottery.callbacks.snfs import SNFS as SNFS
from tf_lottery.callbacks.sparsity_logger import SparsityLogger as SparsityLogger
from tf_lottery.callbacks.ticket_search import TicketSearch as TicketSearch
