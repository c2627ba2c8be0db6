"""The base class of callbacks that anneal tweaks."""

import warnings
from typing import Any

import numpy as np
from keras import ops

from tf_lottery.callbacks.base import SparsityCallback
from tf_lottery.checks import natural_number, positive_integer
from tf_lottery.layers import Part
from tf_lottery.tweaks import require_tweak

_UPDATES = 200


class TweakAnnealing(SparsityCallback):
    """Reduces a variable of a tweak linearly from its initial value to 0.

    A subclass sets `kind`, the class of the tweak, `variable_name`, and `advice`, the call that
    adds the tweak. Steps are those of the optimizer, so training of a saved model continues the
    schedule.

    Args:
        end_step: Integer > `begin_step`, the first step with the value 0.
        begin_step: Integer >= 0, the step at which the value starts to fall. Defaults to `0`.
        frequency: Integer > 0, steps between two changes. Defaults to `None`: 1/200 of the
            steps from `begin_step` to `end_step`, but at least 1.
        **kwargs: `sparse_model` and `optimizer`, if the sparse model is a part of the fitted
            model; see `tfl.callbacks.SparsityCallback`.

    Raises:
        ValueError: If an argument is outside its range.
    """

    kind: type[Part]
    variable_name: str
    advice: str

    def __init__(
        self, end_step: int, begin_step: int = 0, *, frequency: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.begin_step = natural_number("begin_step", begin_step)
        self.end_step = positive_integer("end_step", end_step)
        if end_step <= begin_step:
            raise ValueError(
                f"Argument `end_step` must be above `begin_step`, {begin_step}. "
                f"Received: end_step={end_step}"
            )
        if frequency is None:
            frequency = max(1, (self.end_step - self.begin_step) // _UPDATES)
        self.frequency = positive_integer("frequency", frequency)

    @property
    def tweak(self) -> Part:
        """The tweak of the model."""
        return require_tweak(self.model, self.kind, self.advice)

    def initial_value(self) -> float:
        """Returns the initial value."""
        raise NotImplementedError

    def value(self, step: int) -> float:
        """Returns the value of the variable at a step.

        Args:
            step: Integer.
        """
        if step >= self.end_step:
            return 0.0
        step = max(step, self.begin_step)
        step -= (step - self.begin_step) % self.frequency
        left = (self.end_step - step) / (self.end_step - self.begin_step)
        return self.initial_value() * left

    def next_step(self) -> int | None:
        """Returns the step of the next change."""
        if self.step >= self.end_step:
            return None
        if self.step < self.begin_step:
            return min(self.begin_step + self.frequency, self.end_step)
        passed = (self.step - self.begin_step) // self.frequency + 1
        return min(self.begin_step + passed * self.frequency, self.end_step)

    def on_step(self) -> None:
        """Sets the variable to its value at this step."""
        value = np.float32(self.value(self.step))
        getattr(self.tweak, self.variable_name).assign(value)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Sets the variable to its value at the current step."""
        super().on_train_begin(logs)
        if self.training.fitted is not self.training.model:
            # Adding the tweak made only the sparse model forget its compiled functions.
            self.training.make_train_function()
        if self.step >= self.end_step and self._current() > 0:
            warnings.warn(
                f"The optimizer is at step {self.step}, so {type(self).__name__} has already ended "
                f"at `end_step` {self.end_step}. Compile the model anew with a new optimizer, "
                "which starts at step 0, or set a later `end_step`.",
                stacklevel=2,
            )
        self.on_step()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Warns if the variable is not 0 after training."""
        super().on_train_end(logs)
        if self.failure is not None or (current := self._current()) == 0:
            return
        name = f"{type(self.tweak).__name__}.{self.variable_name}"
        if self.step < self.end_step:
            reason = "Train longer or set an earlier `end_step`."
        else:
            reason = (
                "A callback restored weights of an earlier step: start callbacks like "
                "`EarlyStopping(restore_best_weights=True)` when annealing has ended."
            )
        warnings.warn(
            f"Training stopped at step {self.step}, with `end_step` {self.end_step}: `{name}` is "
            f"{current:.3g} and not 0, so the tweak still changes the model. {reason}",
            stacklevel=2,
        )

    def _current(self):
        return float(ops.convert_to_numpy(getattr(self.tweak, self.variable_name)))
