"""The trainings of the papers, at the size in which they were published."""

from tf_lottery.experiments.reproductions.catalogue import REPRODUCTIONS as REPRODUCTIONS
from tf_lottery.experiments.reproductions.loading import load as load
from tf_lottery.experiments.reproductions.loading import make as make
from tf_lottery.experiments.reproductions.reproduction import Reproduction as Reproduction
from tf_lottery.experiments.reproductions.running import count as count
from tf_lottery.experiments.reproductions.running import remove_reproduction as remove_reproduction
from tf_lottery.experiments.reproductions.running import run_reproduction as run_reproduction
