"""Which operators of a file run in the sparse kernels of XNNPACK, LiteRT's engine for CPUs."""

from tf_lottery.export.xnnpack.report import OperatorRow as OperatorRow
from tf_lottery.export.xnnpack.report import SparseInferenceReport as SparseInferenceReport
from tf_lottery.export.xnnpack.sparse_inference import (
    sparse_inference_report as sparse_inference_report,
)
