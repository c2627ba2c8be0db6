"""Arithmetic on arrays: what is pruned, how much, when and by which score."""

from tf_lottery.sparsity import masks as masks
from tf_lottery.sparsity import patterns as patterns
from tf_lottery.sparsity import schedules as schedules
from tf_lottery.sparsity import scores as scores
from tf_lottery.sparsity.masks import top_k_masks as top_k_masks
from tf_lottery.sparsity.patterns import Unstructured as Unstructured
from tf_lottery.sparsity.schedules import Constant as Constant
from tf_lottery.sparsity.schedules import Geometric as Geometric
from tf_lottery.sparsity.schedules import Polynomial as Polynomial
