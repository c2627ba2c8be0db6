"""The sparse model."""

from tf_lottery.model.checks import check_settled as check_settled
from tf_lottery.model.checks import check_sparse_model as check_sparse_model
from tf_lottery.model.checks import named_weights as named_weights
from tf_lottery.model.sparse_model import SparseModel as SparseModel
