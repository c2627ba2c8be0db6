"""Fits pruned networks to unlabelled examples, without training."""

from tf_lottery.calibration._repair import RepairReport as RepairReport
from tf_lottery.calibration._repair import repair as repair
