"""Pruning decisions on plain arrays: which weights, how many, when and by which score."""

from tf_lottery.sparsity import budgets as budgets
from tf_lottery.sparsity import distributions as distributions
from tf_lottery.sparsity import group_scores as group_scores
from tf_lottery.sparsity import groups as groups
from tf_lottery.sparsity import masks as masks
from tf_lottery.sparsity import patterns as patterns
from tf_lottery.sparsity import schedules as schedules
from tf_lottery.sparsity import scores as scores
from tf_lottery.sparsity._drop_and_grow import drop_and_grow as drop_and_grow
from tf_lottery.sparsity.distributions import erdos_renyi as erdos_renyi
from tf_lottery.sparsity.distributions import erdos_renyi_kernel as erdos_renyi_kernel
from tf_lottery.sparsity.distributions import uniform as uniform
from tf_lottery.sparsity.masks import top_k_masks as top_k_masks
from tf_lottery.sparsity.patterns import NM as NM
from tf_lottery.sparsity.patterns import Block as Block
from tf_lottery.sparsity.patterns import Channel as Channel
from tf_lottery.sparsity.patterns import Pattern as Pattern
from tf_lottery.sparsity.patterns import Unstructured as Unstructured
from tf_lottery.sparsity.schedules import Constant as Constant
from tf_lottery.sparsity.schedules import Cosine as Cosine
from tf_lottery.sparsity.schedules import Geometric as Geometric
from tf_lottery.sparsity.schedules import InversePower as InversePower
from tf_lottery.sparsity.schedules import Polynomial as Polynomial
