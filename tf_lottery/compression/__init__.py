"""From a trained model to files within a budget: `tfl.compress`."""

from tf_lottery.compression._compress import compress as compress
from tf_lottery.compression.files import CompressedFile as CompressedFile
from tf_lottery.compression.report import Compression as Compression
