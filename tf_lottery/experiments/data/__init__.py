"""Data for experiments: data sets by name, and one's own from files, folders and functions."""

from tf_lottery.experiments.data.named import DATASETS as DATASETS
from tf_lottery.experiments.data.named import IMAGES as IMAGES
from tf_lottery.experiments.data.named import TEXT_LENGTH as TEXT_LENGTH
from tf_lottery.experiments.data.named import load as load
from tf_lottery.experiments.data.own import load_own as load_own
from tf_lottery.experiments.data.parts import Data as Data
from tf_lottery.experiments.data.parts import input_settings as input_settings
from tf_lottery.experiments.data.sources import Reading as Reading
from tf_lottery.experiments.data.sources import read_source as read_source
from tf_lottery.experiments.data.splits import hold_out as hold_out
