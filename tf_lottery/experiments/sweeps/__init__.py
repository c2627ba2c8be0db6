"""Many independent trainings, on one machine or on many, and one table of their results."""

from tf_lottery.experiments.sweeps.results import SweepResult as SweepResult
from tf_lottery.experiments.sweeps.run import Run as Run
from tf_lottery.experiments.sweeps.spec import Sweep as Sweep
from tf_lottery.experiments.sweeps.sweep import remove_sweep as remove_sweep
from tf_lottery.experiments.sweeps.sweep import run_sweep as run_sweep
