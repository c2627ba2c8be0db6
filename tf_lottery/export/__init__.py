"""Exports models to files for devices. Every file is run and compared with Keras first."""

from tf_lottery.export.compaction import CompactionReport as CompactionReport
from tf_lottery.export.compaction import compact as compact
from tf_lottery.export.errors import ExportError as ExportError
from tf_lottery.export.file_report import FileReport as FileReport
from tf_lottery.export.file_report import TensorRow as TensorRow
from tf_lottery.export.inspection import inspect_tflite as inspect_tflite
from tf_lottery.export.report import ExportReport as ExportReport
from tf_lottery.export.report import StoredFile as StoredFile
from tf_lottery.export.sparse_flatbuffer import sparsify_flatbuffer as sparsify_flatbuffer
from tf_lottery.export.tflite import export_tflite as export_tflite
from tf_lottery.export.xnnpack import OperatorRow as OperatorRow
from tf_lottery.export.xnnpack import SparseInferenceReport as SparseInferenceReport
from tf_lottery.export.xnnpack import sparse_inference_report as sparse_inference_report
