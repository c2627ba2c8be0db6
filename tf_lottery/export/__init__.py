"""Files for devices, run and compared with Keras before they are handed out."""

from tf_lottery.export.report import ExportReport as ExportReport
from tf_lottery.export.report import StoredFile as StoredFile
from tf_lottery.export.tflite import ExportError as ExportError
from tf_lottery.export.tflite import export_tflite as export_tflite
