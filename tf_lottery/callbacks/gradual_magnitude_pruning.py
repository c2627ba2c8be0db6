"""Gradual magnitude pruning: a schedule of sparsities during one training."""

import numbers
import warnings
from collections.abc import Callable
from typing import Any

import keras

from tf_lottery.callbacks.base import END_OF_TRAINING, SparsityCallback
from tf_lottery.checks import choice, fraction, natural_number, positive_integer
from tf_lottery.kernel_ranking import named_scores
from tf_lottery.pruning import check_reachable, prune
from tf_lottery.sparsity import masks as mask_ops
from tf_lottery.sparsity import patterns
from tf_lottery.sparsity.budgets import GradualBudget, check_budget
from tf_lottery.sparsity.schedules import Polynomial


@keras.saving.register_keras_serializable("tf_lottery")
class GradualMagnitudePruning(SparsityCallback):
    """Prunes the smallest weights gradually during training.

    "To prune, or not to prune" (Zhu & Gupta, arXiv:1710.01878). The masks are updated at the
    schedule's `begin_step`, every `frequency` steps after it, and at its `end_step`. Pruned
    weights stay pruned. Steps are those of the optimizer, so training of a saved model continues
    the schedule.

    Args:
        schedule: Float in (0, 1), the final sparsity of a `tfl.sparsity.Polynomial`; or a
            function from the step to the sparsity, with the attributes `begin_step` and
            `end_step`, such as `tfl.sparsity.Polynomial` or `Constant`. Defaults to `None`:
            `budget` is given.
        frequency: Integer > 0. Steps between two updates. Defaults to `100`.
        budget: Dict such as `{"flops": 0.5}`, instead of `schedule`, for models with the pattern
            `"channel"`: the fraction of FLOPs or parameters that `tfl.compact` leaves at the end;
            see `tfl.prune`. What is removed grows as the sparsity of a `tfl.sparsity.Polynomial`
            does. Defaults to `None`.
        begin_step: Integer >= 0, the first step of the schedule, if `schedule` is a number or
            `budget` is given. Defaults to `None`: 0.
        end_step: Integer > `begin_step`, the last step of such a schedule. Defaults to `None`: 75%
            of the training that `fit` starts. In this case, `begin_step` also counts from the
            start of `fit`.
        scope: `"layer"`, `"global"` or, for channels, `"isomorphic"`; see `tfl.prune`. Defaults
            to `"layer"`.
        distribution: How every sparsity of the schedule is distributed over the kernels, with
            `scope="layer"`; see `tfl.sparsify`. `"erk"` gives the network the shape that the
            sparse methods of arXiv:1911.11134 train. Defaults to `None`: uniform, as in
            arXiv:1710.01878.
        scores: Name or function; see `tfl.prune`. Scores that compare with the start of
            training compare with the weights when `fit` began. Defaults to `"magnitude"`.
        pattern: A pattern, or its name. Defaults to `None`: that of the model.
        floor: Integer >= 0, the minimum number of weights that every kernel keeps; see
            `tfl.prune`. Defaults to `1`.
        seed: Integer >= 0, for `scores="random"`. Defaults to `0`.
        **kwargs: `sparse_model` and `optimizer`, if the sparse model is a part of the fitted
            model; see `tfl.callbacks.SparsityCallback`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> sparse = tfl.sparsify(model)
    >>> sparse.compile("adam", loss)
    >>> pruning = GradualMagnitudePruning(0.9, frequency=1)
    >>> history = sparse.fit(x, y, epochs=10, callbacks=[pruning], verbose=0)
    >>> sparse.sparsity
    0.9
    >>> schedule = tfl.sparsity.Polynomial(final_value=0.95, begin_step=12, end_step=18)
    >>> pruning = GradualMagnitudePruning(schedule, frequency=1)
    >>> history = sparse.fit(x, y, epochs=10, callbacks=[pruning], verbose=0)
    >>> sparse.sparsity
    0.95
    >>> by_channel = tfl.sparsify(keras.models.clone_model(model), pattern="channel")
    >>> by_channel.compile("adam", loss)
    >>> pruning = GradualMagnitudePruning(budget={"parameters": 0.5}, frequency=1)
    >>> history = by_channel.fit(x, y, epochs=3, callbacks=[pruning], verbose=0)
    >>> int(by_channel.kept_channels()["hidden"].sum())
    4
    """

    sets_masks = True

    def __init__(
        self,
        schedule: float | Callable[[int], float] | None = None,
        frequency: int = 100,
        *,
        budget: dict[str, float] | None = None,
        begin_step: int | None = None,
        end_step: int | None = None,
        scope: str = "layer",
        distribution: str | dict[str, float] | Callable | None = None,
        scores: str | Callable = "magnitude",
        pattern: patterns.Pattern | str | None = None,
        floor: int = 1,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.budget = budget
        self._target = _checked_target(schedule, budget, begin_step, end_step)
        self._begin_step, self._end_step = begin_step, end_step
        self.schedule: Any = schedule
        if self._target is not None:
            self.schedule = None if end_step is None else self._schedule_to_target(0, end_step)
        self.frequency = positive_integer("frequency", frequency)
        self.scope = choice("scope", scope, mask_ops.GROUP_SCOPES)
        _check_distribution(distribution, self.scope, budget)
        self.distribution = distribution
        self.scores = named_scores(scores)
        self.pattern = None if pattern is None else patterns.get(pattern)
        self.floor = natural_number("floor", floor)
        self.seed = natural_number("seed", seed)
        self._initial = None
        self._reached = 0.0

    def next_step(self) -> int | None:
        """Returns the next step at which the masks are updated."""
        if self.schedule is None:
            return None
        begin, end = self.schedule.begin_step, self.schedule.end_step
        if self.step < begin:
            return begin
        if self.step >= end:
            return None
        return min(self._last_step() + self.frequency, end)

    def on_step(self) -> None:
        """Prunes to the sparsity or budget of the last due step."""
        due = self._last_step()
        asked = self.schedule(due)
        prune(
            self.model,
            None if self.budget else asked,
            budget=asked if self.budget else None,
            distribution=self.distribution,
            scores=self.scores,
            scope=self.scope,
            pattern=self.pattern,
            floor=self.floor,
            initial=self._initial,
            seed=[self.seed, due],
        )
        self.training.clear_pruned_slots()
        self._reached = self.model.sparsity

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Prunes to the sparsity or budget that is already due."""
        if self._target is not None and self._end_step is None:
            self.schedule = None
        super().on_train_begin(logs)
        if self.budget is not None:
            # An error now, and not after most of the training.
            check_reachable(self.model, self.budget, pattern=self.pattern, floor=self.floor)
        self._initial, self._reached = self.model.get_kernels(), 0.0
        if self.schedule is None:
            self.training_span()
        elif self.step >= self.schedule.begin_step:
            self.on_step()

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Sets the schedule before the first batch, when all callbacks have restored state."""
        if self.schedule is None:
            self.reset_step()
            start, length = self.training_span()
            end = start + round(END_OF_TRAINING * length)
            self.schedule = self._schedule_to_target(start, end)
            if self.step > self.schedule.begin_step:
                self.on_step()
            self.reset_step()
        super().on_train_batch_begin(batch, logs)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Warns if training was too short for the schedule, or other callbacks undid masks."""
        super().on_train_end(logs)
        self.warn_if_undone(self._reached)
        if self.failure is not None or self.schedule is None:
            return
        if self.step < self.schedule.end_step:
            asked = self.schedule(self.schedule.end_step)
            if self.budget is None:
                state = f"the sparsity is {self.model.sparsity:.3f} instead of {asked:.3f}"
            else:
                due = self.schedule(self._last_step())
                reached = {kind: round(left, 3) for kind, left in due.items()}
                state = f"the model is within {reached} instead of {asked}"
            warnings.warn(
                f"Training stopped at step {self.step}, before the end of the schedule at step "
                f"{self.schedule.end_step}: {state}. "
                "Train longer or set an earlier `end_step`.",
                stacklevel=2,
            )

    def _schedule_to_target(self, start, end):
        begin = start + natural_number("begin_step", self._begin_step or 0)
        if natural_number("end_step", end) <= begin:
            raise ValueError(
                "Argument `end_step` must lie after `begin_step`. "
                f"Received: begin_step={begin}, end_step={end}"
            )
        if self.budget is not None:
            return GradualBudget(self._target, end_step=end, begin_step=begin)
        return Polynomial(self._target, end_step=end, begin_step=begin)

    def _last_step(self):
        """Returns the last step so far at which an update was due."""
        begin, end = self.schedule.begin_step, self.schedule.end_step
        if self.step >= end:
            return end
        return begin + (self.step - begin) // self.frequency * self.frequency


def _checked_target(schedule, budget, begin_step, end_step):
    """Returns the sparsity or budget to end with, or `None` for a schedule that has its own end."""
    if (schedule is None) == (budget is None):
        raise ValueError(
            "Exactly one of the arguments `schedule` and `budget` must be given. "
            f"Received: schedule={schedule!r}, budget={budget!r}"
        )
    if budget is not None or isinstance(schedule, numbers.Real):
        natural_number("begin_step", begin_step or 0)
        return fraction("schedule", schedule) if budget is None else check_budget(budget)
    if not (
        callable(schedule) and hasattr(schedule, "begin_step") and hasattr(schedule, "end_step")
    ):
        raise ValueError(
            "Argument `schedule` must be a number or a schedule such as "
            f"`tfl.sparsity.Polynomial`. Received: schedule={schedule!r}"
        )
    if (begin_step, end_step) != (None, None):
        raise ValueError(
            "Arguments `begin_step` and `end_step` need a number as `schedule`, since "
            f"schedules have their own. Received: begin_step={begin_step}, "
            f"end_step={end_step}, schedule={schedule!r}"
        )
    return None


def _check_distribution(distribution, scope, budget):
    if distribution is not None and budget is not None:
        raise ValueError(
            "Argument `distribution` must be `None` with `budget`, which all groups meet "
            f"together. Received: distribution={distribution!r}, budget={budget!r}"
        )
    if distribution is not None and scope != "layer":
        raise ValueError(
            "Argument `distribution` needs `scope='layer'`, since a global ranking decides the "
            f"sparsity of every kernel. Received: distribution={distribution!r}"
        )
