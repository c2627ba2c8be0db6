"""Gradual magnitude pruning: a schedule of sparsities during one training."""

import warnings

from tf_lottery.callbacks.base import SparsityCallback
from tf_lottery.checks import choice, positive_integer
from tf_lottery.pruning import prune
from tf_lottery.sparsity import masks as mask_ops
from tf_lottery.sparsity import patterns
from tf_lottery.sparsity import scores as score_functions


class GradualMagnitudePruning(SparsityCallback):
    """Prunes the smallest weights little by little while the model trains.

    "To prune, or not to prune" (Zhu & Gupta, arXiv:1710.01878). The masks are updated at
    `schedule.begin_step`, every `frequency` steps after it and at `schedule.end_step`;
    what is pruned stays pruned. Steps are the optimizer's, so a saved model goes on where
    it stopped.

    Args:
        schedule: Function of the step to the sparsity, with the attributes `begin_step`
            and `end_step`: `tfl.sparsity.Polynomial` or `Constant`.
        frequency: Integer > 0. Steps between two updates. Defaults to `100`.
        scope: `"global"` or `"layer"`; see `tfl.prune`. Defaults to `"global"`.
        scores: Name or function; see `tfl.prune`. Scores that compare with the start of
            training compare with the weights when `fit` began. Defaults to `"magnitude"`.
        pattern: A pattern, or its name. Defaults to `None`: that of the model.
        seed: Integer, for `scores="random"`. Defaults to `0`.
        **kwargs: `sparse_model` and `optimizer`, where the sparse model is a part of the one that
            is fitted; see `tfl.callbacks.SparsityCallback`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> sparse = tfl.sparsify(model)
    >>> sparse.compile("adam", loss)
    >>> schedule = tfl.sparsity.Polynomial(final_value=0.9, begin_step=2, end_step=8)
    >>> pruning = GradualMagnitudePruning(schedule, frequency=1)
    >>> history = sparse.fit(x, y, epochs=10, callbacks=[pruning], verbose=0)
    >>> sparse.sparsity
    0.9
    """

    sets_masks = True

    def __init__(
        self,
        schedule,
        frequency=100,
        scope="global",
        scores="magnitude",
        pattern=None,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not (callable(schedule) and hasattr(schedule, "begin_step")):
            raise ValueError(
                "Argument `schedule` must be a schedule such as `tfl.sparsity.Polynomial`. "
                f"Received: schedule={schedule!r}"
            )
        self.schedule = schedule
        self.frequency = positive_integer("frequency", frequency)
        self.scope = choice("scope", scope, mask_ops.SCOPES)
        self.scores = score_functions.get(scores)
        self.pattern = None if pattern is None else patterns.get(pattern)
        self.seed = seed
        self._initial = None
        self._reached = 0.0

    def next_step(self):
        """Returns the next step at which the masks are updated."""
        begin, end = self.schedule.begin_step, self.schedule.end_step
        if self.step < begin:
            return begin
        if self.step >= end:
            return None
        return min(self._last_step() + self.frequency, end)

    def on_step(self):
        """Prunes to the sparsity of the last step that was due."""
        due = self._last_step()
        prune(
            self.model,
            self.schedule(due),
            scores=self.scores,
            scope=self.scope,
            pattern=self.pattern,
            initial=self._initial,
            seed=[self.seed, due],
        )
        self._reached = self.model.sparsity

    def on_train_begin(self, logs=None):
        """Prunes to the sparsity that is already due."""
        super().on_train_begin(logs)
        self._initial, self._reached = self.model.get_kernels(), 0.0
        if self.step >= self.schedule.begin_step:
            self.on_step()

    def on_train_end(self, logs=None):
        """Warns if training was too short for the schedule, or masks were taken back."""
        self.warn_if_undone(self._reached)
        if self.step < self.schedule.end_step:
            warnings.warn(
                f"Training stopped at step {self.step}, before the end of the schedule at step "
                f"{self.schedule.end_step}: the sparsity is {self.model.sparsity:.3f} instead of "
                f"{self.schedule(self.schedule.end_step):.3f}. Train longer or set an earlier "
                "`end_step`.",
                stacklevel=2,
            )

    def _last_step(self):
        """Returns the last step up to now at which an update was due."""
        begin, end = self.schedule.begin_step, self.schedule.end_step
        if self.step >= end:
            return end
        return begin + (self.step - begin) // self.frequency * self.frequency
