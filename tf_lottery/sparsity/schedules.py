"""Schedules: a value, usually the sparsity, as a function of the step or the level."""

import dataclasses
import math

import keras

from tf_lottery.checks import fraction
from tf_lottery.sparsity.serializable import Serializable


def _progress(step, begin_step, end_step):
    """Returns the progress between the two steps in [0, 1], or `None` before `begin_step`."""
    if step < begin_step:
        return None
    return 1.0 if step >= end_step else (step - begin_step) / (end_step - begin_step)


def _check_steps(begin_step, end_step):
    if begin_step < 0:
        raise ValueError(f"Argument `begin_step` must be >= 0. Received: begin_step={begin_step}")
    if end_step < begin_step:
        raise ValueError(
            "Argument `end_step` must not lie before `begin_step`. "
            f"Received: begin_step={begin_step}, end_step={end_step}"
        )


def _check_power(power):
    if power <= 0:
        raise ValueError(f"Argument `power` must be > 0. Received: power={power}")


@keras.saving.register_keras_serializable("tf_lottery")
@dataclasses.dataclass(frozen=True)
class Constant(Serializable):
    """A constant value from `begin_step` on, that step included.

    Args:
        value: Float in [0, 1), for example the sparsity.
        begin_step: Integer >= 0. The first step with this value; before it
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
    def end_step(self) -> int:
        """The step from which on the value no longer changes."""
        return self.begin_step

    def __call__(self, step):
        """Returns the value at `step`."""
        return self.value if step >= self.begin_step else 0.0


@keras.saving.register_keras_serializable("tf_lottery")
@dataclasses.dataclass(frozen=True)
class Polynomial(Serializable):
    """The gradual schedule of Zhu & Gupta, which changes fast at first and slowly at the end.

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

    >>> round(Polynomial(final_value=0.8, end_step=100)(50), 6)
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
        _check_power(self.power)

    def __call__(self, step):
        """Returns the value at `step`."""
        progress = _progress(step, self.begin_step, self.end_step)
        if progress is None:
            return 0.0
        remaining = (1 - progress) ** self.power
        return self.final_value + (self.initial_value - self.final_value) * remaining


@keras.saving.register_keras_serializable("tf_lottery")
@dataclasses.dataclass(frozen=True)
class Cosine(Serializable):
    """A value that falls to 0 along half a period of a cosine.

    `initial / 2 * (1 + cos(pi * (t - begin) / (end - begin)))`, the fraction of weights
    that an update of "Rigging the Lottery" replaces (arXiv:1911.11134, section 3). Before
    `begin_step` it is 0, at `begin_step` it is `initial_value`, from `end_step` on, that
    step included, it is 0.

    Args:
        initial_value: Float in [0, 1). The value at `begin_step`.
        end_step: Integer. The first step at which it is 0.
        begin_step: Integer >= 0. Defaults to `0`.

    Example:

    >>> [round(Cosine(0.3, end_step=100)(step), 3) for step in (0, 25, 50, 100)]
    [0.3, 0.256, 0.15, 0.0]
    """

    initial_value: float
    end_step: int
    begin_step: int = 0

    def __post_init__(self):
        fraction("initial_value", self.initial_value)
        _check_steps(self.begin_step, self.end_step)

    def __call__(self, step):
        """Returns the value at `step`."""
        progress = _progress(step, self.begin_step, self.end_step)
        if progress is None or progress == 1:
            return 0.0
        return self.initial_value / 2 * (1 + math.cos(math.pi * progress))


@keras.saving.register_keras_serializable("tf_lottery")
@dataclasses.dataclass(frozen=True)
class InversePower(Serializable):
    """A value that falls to 0 as a power of the share of steps that are left.

    `initial * (1 - (t - begin) / (end - begin)) ** power`, the other annealing of "Rigging
    the Lottery" (arXiv:1911.11134, appendix G, with a power of 1 or 3). Before `begin_step`
    it is 0, at `begin_step` it is `initial_value`, from `end_step` on, that step included,
    it is 0.

    Args:
        initial_value: Float in [0, 1). The value at `begin_step`.
        end_step: Integer. The first step at which it is 0.
        power: Float > 0. Defaults to `3`.
        begin_step: Integer >= 0. Defaults to `0`.

    Example:

    >>> [InversePower(0.4, end_step=100, power=1)(step) for step in (0, 50, 100)]
    [0.4, 0.2, 0.0]
    """

    initial_value: float
    end_step: int
    power: float = 3
    begin_step: int = 0

    def __post_init__(self):
        fraction("initial_value", self.initial_value)
        _check_steps(self.begin_step, self.end_step)
        _check_power(self.power)

    def __call__(self, step):
        """Returns the value at `step`."""
        progress = _progress(step, self.begin_step, self.end_step)
        return 0.0 if progress is None else self.initial_value * (1 - progress) ** self.power


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
