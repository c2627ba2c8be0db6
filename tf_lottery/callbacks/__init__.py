"""Callbacks for `fit`: one algorithm each."""

from tf_lottery.callbacks.base import SparsityCallback as SparsityCallback
from tf_lottery.callbacks.early_stop_iteration import EarlyStopIteration as EarlyStopIteration
from tf_lottery.callbacks.gradual_magnitude_pruning import (
    GradualMagnitudePruning as GradualMagnitudePruning,
)
from tf_lottery.callbacks.iterative_magnitude_pruning import (
    IterativeMagnitudePruning as IterativeMagnitudePruning,
)
from tf_lottery.callbacks.sparsity_logger import SparsityLogger as SparsityLogger
