"""Schedules: how a value, mostly the sparsity, develops over steps or levels."""

import dataclasses

import keras

from tf_lottery.checks import fraction
from tf_lottery.sparsity.serializable import Serializable


def _check_steps(begin_step, end_step):
    if begin_step < 0:
        raise ValueError(f"Argument `begin_step` must be >= 0. Received: begin_step={begin_step}")
    if end_step < begin_step:
        raise ValueError(
            "Argument `end_step` must not lie before `begin_step`. "
            f"Received: begin_step={begin_step}, end_step={end_step}"
        )


@keras.saving.register_keras_serializable("tf_lottery")
@dataclasses.dataclass(frozen=True)
class Constant(Serializable):
    """A value that holds from `begin_step` on.

    Args:
        value: Float in [0, 1). The value, for example the sparsity.
        begin_step: Integer >= 0. The first step at which it holds; before it
            the schedule is 0. Defaults to `0`.

    Example:

    >>> Constant(0.5, begin_step=10)(9), Constant(0.5, begin_step=10)(10)
    (0.0, 0.5)
    """

    value: float
    begin_step: int = 0

    def __post_init__(self):
        fraction("value", self.value)
        _check_steps(self.begin_step, self.begin_step)

    @property
    def end_step(self):
        """The step after which the value no longer changes."""
        return self.begin_step

    def __call__(self, step):
        """Returns the value at `step`."""
        return self.value if step >= self.begin_step else 0.0


@keras.saving.register_keras_serializable("tf_lottery")
@dataclasses.dataclass(frozen=True)
class Polynomial(Serializable):
    """The gradual schedule of Zhu & Gupta: fast at first, gentle at the end.

    `final + (initial - final) * (1 - (t - begin) / (end - begin)) ** power`,
    the cubic of "To prune, or not to prune" (arXiv:1710.01878, equation 1).
    Before `begin_step` it is 0, from `end_step` on it is `final_value`.

    Args:
        final_value: Float in [0, 1). The value at `end_step`.
        end_step: Integer. The step at which `final_value` is reached.
        begin_step: Integer >= 0. The step of `initial_value`. Defaults to `0`.
        initial_value: Float in [0, 1). Defaults to `0.0`.
        power: Float > 0. Defaults to `3`.

    Example:

    >>> Polynomial(final_value=0.8, end_step=100)(50)
    0.7
    """

    final_value: float
    end_step: int
    begin_step: int = 0
    initial_value: float = 0.0
    power: float = 3

    def __post_init__(self):
        fraction("initial_value", self.initial_value)
        fraction("final_value", self.final_value)
        _check_steps(self.begin_step, self.end_step)
        if self.power <= 0:
            raise ValueError(f"Argument `power` must be > 0. Received: power={self.power}")

    def __call__(self, step):
        """Returns the value at `step`."""
        if step < self.begin_step:
            return 0.0
        if step >= self.end_step:
            return self.final_value
        remaining = 1 - (step - self.begin_step) / (self.end_step - self.begin_step)
        return self.final_value + (self.initial_value - self.final_value) * remaining**self.power


@keras.saving.register_keras_serializable("tf_lottery")
@dataclasses.dataclass(frozen=True)
class Geometric(Serializable):
    """The sparsity of iterative pruning: every level prunes `rate` of what is left.

    `1 - (1 - rate) ** level`, the densities of "The Lottery Ticket Hypothesis"
    (arXiv:1803.03635, section 2).

    Args:
        rate: Float in [0, 1). The share of the surviving weights that a level
            prunes.

    Example:

    >>> [round(1 - Geometric(0.2)(level), 3) for level in range(4)]
    [1.0, 0.8, 0.64, 0.512]
    """

    rate: float

    def __post_init__(self):
        fraction("rate", self.rate)

    def __call__(self, level):
        """Returns the sparsity at `level`; level 0 is dense."""
        return 1.0 - (1.0 - self.rate) ** level
