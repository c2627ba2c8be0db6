"""The base class of the callbacks, with a sparse model and a count of training steps."""

import functools
import math
import os
import warnings
from typing import Self

import keras

from tf_lottery.callbacks.last_good_state import LastGoodState, check_finite
from tf_lottery.callbacks.step_count import StepCount
from tf_lottery.callbacks.undone_pruning import warn_of_undone_pruning
from tf_lottery.model import SparseModel, check_settled
from tf_lottery.model.saves import start_recording, stop_recording
from tf_lottery.printable import ShowsArguments
from tf_lottery.snapshot import Snapshot
from tf_lottery.training import Training, find_training

# The share of a training after which methods do not change the masks any more.
END_OF_TRAINING = 0.75


@keras.saving.register_keras_serializable("tf_lottery")
class SparsityCallback(ShowsArguments, keras.callbacks.Callback):
    """A callback that acts on a `SparseModel` at certain training steps.

    Steps are those of the optimizer, so the count continues when training is resumed. With
    `steps_per_execution` above one, a callback acts after the first execution that reaches the
    due step.

    In a loop without `fit`, call `start_loop()` before the first step, `after_step()` after each
    step, when the variables have their new values, and `end_loop()` after the last step. If the
    model is not compiled with the optimizer, build it before:
    `optimizer.build(model.trainable_variables)`, with the whole trained model. After
    `start_loop()`, on JAX and PyTorch too, read lists of trainable variables anew, since methods
    that collect gradients add variables.

    A subclass overrides `next_step`, which returns the next step at which to act, and `on_step`,
    which acts. Methods of Keras' callbacks that it overrides must call those of this class. If it
    sets masks, it sets `sets_masks` to `True`, and raises an error for models with soft gates.
    Keras can serialize it, `keras.saving.serialize_keras_object(callback)`, if it is registered.

    If the loss or a weight is not finite any more, training stops with a warning that names the
    step, the weights and a likely cause, and the model, its optimizer and all that `fit` trains
    are again as they were before the epoch. In a loop without `fit`, they are as they were when
    the callback last acted, and `after_step` raises a `FloatingPointError`.

    Args:
        sparse_model: The `SparseModel` to work on, if it is a part of the fitted model. Defaults
            to `None`: the fitted model.
        optimizer: The Keras optimizer that trains it, whose steps are counted. It must be built,
            unless the fitted model is compiled with it. Defaults to `None`: the optimizer is
            found in the fitted model.

    Attributes:
        training: `Training`, the sparse model, the fitted model and the optimizer, which the
            functions of `tf_lottery.growth` take. Set when `fit` starts.
        failure: String, why the last training failed, or `None`.

    Example:

    >>> class Report(SparsityCallback):
    ...     def next_step(self):
    ...         return self.step - self.step % 5 + 5
    ...     def on_step(self):
    ...         print(f"Step {self.step}: density {self.model.density}")
    >>> history = sparse.fit(x, y, epochs=10, callbacks=[Report()], verbose=0)
    Step 5: density 0.1
    Step 10: density 0.1
    """

    sets_masks = False
    # Whether the callback can act in a loop without `fit`.
    works_in_loops = True
    # Whether the callback ends a training that is no longer finite. Those that only measure do not.
    ends_failed_training = True
    # What else to do against values that are not finite.
    failure_advice = ""

    def __init__(
        self,
        *,
        sparse_model: SparseModel | None = None,
        optimizer: keras.optimizers.Optimizer | None = None,
    ) -> None:
        super().__init__()
        self.sparse_model, self._given_optimizer = sparse_model, optimizer
        self.training: Training | None = None
        self.failure: str | None = None
        self._good: LastGoodState | None = None
        self._count = StepCount()
        self._due = None

    def get_config(self) -> dict:
        """Returns the constructor's arguments, as they were given, for Keras' serialization.

        The state of a training is not included; checkpoints of callbacks with a `directory` save
        it.

        Raises:
            ValueError: If `sparse_model` or `optimizer` was given.
        """
        given = self.given_arguments()
        for name in ("sparse_model", "optimizer"):
            if given.get(name) is not None:
                raise ValueError(
                    f"Argument `{name}` must be `None` in a callback that is serialized, since it "
                    f"belongs to one training. Received: {given[name].name!r}"
                )
        return {n: os.fspath(v) if isinstance(v, os.PathLike) else v for n, v in given.items()}

    @classmethod
    def from_config(cls, config: dict) -> Self:
        """Returns the callback that `config` describes."""
        return cls(**{n: keras.saving.deserialize_keras_object(v) for n, v in config.items()})

    def set_model(self, model: keras.Model) -> None:
        """Sets the fitted model, and finds the sparse model to work on."""
        self.training = find_training(model, self.sparse_model, self._given_optimizer)
        if self.sets_masks:
            check_settled(self.training.model)
        super().set_model(model)

    @property
    def fitted(self) -> keras.Model:
        """The model that `fit` was called on, with current values of its variables."""
        # On JAX, Keras updates the variables when this property is read.
        return super().model

    @property
    def model(self) -> SparseModel:
        """The sparse model that the callback works on, with current values of its variables."""
        if self.fitted is None:
            return None  # type: ignore[return-value]
        return self.training.model

    @property
    def optimizer(self) -> keras.optimizers.Optimizer | None:
        """The optimizer that trains the sparse model, with current values of its variables."""
        return None if self.fitted is None else self.training.optimizer

    def snapshot(self) -> Snapshot:
        """Returns a `Snapshot` of the sparse model and its optimizer."""
        return Snapshot(self.model, self.optimizer)

    def start_loop(self) -> None:
        """Starts a loop without `fit`. Call it before the first training step.

        Raises:
            ValueError: If the callback needs epochs, was created without `sparse_model` or
                `optimizer`, or the optimizer is not built.
        """
        if not self.works_in_loops or self.sparse_model is None or self._given_optimizer is None:
            raise ValueError(
                f"{type(self).__name__} in a loop without `fit` needs the arguments `sparse_model` "
                "and `optimizer`. Searches for tickets need `fit`. Received: "
                f"sparse_model={self.sparse_model!r}, optimizer={self._given_optimizer!r}"
            )
        self.set_params({"verbose": 0})
        self.set_model(self.sparse_model)
        self.on_train_begin()
        self.on_epoch_begin(0)
        self.on_train_batch_begin(0)

    def after_step(self) -> None:
        """Counts a training step of a loop without `fit`, and acts if a step is due.

        Raises:
            ValueError: If `start_loop` was not called.
            FloatingPointError: If a step was due and a weight is not finite.
        """
        if self._count.last_batch is None:
            raise ValueError(
                "Call `start_loop` before the first training step, and then `after_step`. "
                f"Received: a {type(self).__name__} whose loop has not started"
            )
        batch = self._count.last_batch + 1
        self.on_train_batch_end(batch)
        self.on_train_batch_begin(batch + 1)

    def end_loop(self) -> None:
        """Ends a loop without `fit`, and writes zeros where weights are pruned."""
        self.on_train_end()
        self._write_zeros()

    @property
    def step(self) -> int:
        """Integer, the number of training steps made so far."""
        return self._count.step

    def next_step(self) -> int | None:
        """Returns the step after the current one at which to act, or `None`.

        Asked when training begins and after every `on_step`. To act after each step, return
        `self.step + 1`.
        """
        return None

    def on_step(self) -> None:
        """Acts at a due step. The variables of the model have current values and can be set."""

    def reset_step(self) -> None:
        """Reads the step from the optimizer, when it was set or training began."""
        self._count.read(self.optimizer)
        self._due = self.next_step()

    def training_span(self) -> tuple[int, int]:
        """Returns the first step of this training, and its total number of steps.

        If `fit` was called with `initial_epoch`, the training began that many epochs earlier. Call
        it before the first step, in `on_train_batch_begin`, and keep the result: the first step is
        taken to be the current one.

        Raises:
            ValueError: If the number of steps is unknown.
        """
        epochs, steps = self.params.get("epochs"), self.params.get("steps")
        if not (epochs and steps):
            raise ValueError(
                "Argument `end_step` must be given if the number of training steps is unknown. "
                f"Received: end_step=None, epochs={epochs}, steps per epoch: {steps}"
            )
        # Not exact if loss scaling skipped steps.
        return max(0, self.step - (self._count.first_epoch or 0) * steps), epochs * steps

    def _batches_done(self) -> int:
        """Returns the number of batches that the epoch has had so far."""
        return self._count.batches_done(
            self.optimizer, self.fitted.steps_per_execution, self.params.get("steps")
        )

    def find_failure(self) -> str | None:
        """Returns why training has failed though all is finite, asked at the end of an epoch.

        Returns:
            String with advice, or `None`, the default.
        """
        return None

    def end_training(self, reason: str, how_to_go_on: str = "") -> None:
        """Ends a training that has failed, and restores its last good state.

        Args:
            reason: String, what is wrong and what to do.
            how_to_go_on: String, how to start again from the last good state. Defaults to `""`.

        Raises:
            FloatingPointError: In a loop without `fit`, after the state was restored.
        """
        self._good.failure = self.failure = reason
        self.fitted.stop_training = True
        self._good.restore()
        self.reset_step()
        state = f"The model and its optimizer are as they were at step {self.step}"
        if self.params.get("epochs") is None:
            raise FloatingPointError(f"Training failed: {reason}. {state}.")
        warnings.warn(
            f"Training failed in epoch {self._count.epoch}: {reason}. {state}{how_to_go_on}.",
            stacklevel=2,
        )

    def how_to_go_on(self) -> str:
        """Returns how to start a failed training again, for a message."""
        return f"; `fit` goes on from there with `initial_epoch={self._count.epoch}`"

    def _check(self, logs, weights, ends_epoch=False):
        """Ends the training if loss or weights are not finite. Returns whether it has failed."""
        if self._good is None or self.failure is not None:
            return self.failure is not None
        # Another callback of this `fit` may have found the failure.
        self.failure = self._good.failure
        if self.failure is not None:
            return True
        if text := self._good.find_failure(self.step, logs, weights, ends_epoch):
            self.end_training(text + self.failure_advice, self.how_to_go_on())
        return self.failure is not None

    def warn_if_undone(self, sparsity: float) -> None:
        """Warns if other callbacks undid pruning, or saved the model before pruning ended.

        The warning comes after `fit`, since callbacks can restore weights when training ends.

        Args:
            sparsity: Float, the sparsity of the model after this callback last pruned it.
        """
        if self.failure is None:
            warn = functools.partial(warn_of_undone_pruning, self.model, sparsity)
            self.model.call_after_fit(warn)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts the count at the optimizer's step, and keeps the state."""
        self._count = StepCount()
        self.failure = self._good = None
        self.model.saves.clear()
        start_recording(self.fitted)
        self.training.build_optimizer()
        self.reset_step()
        if self.ends_failed_training:
            self._good = LastGoodState.shared(self.params, self.training)
            check_finite(self.training)
            self._good.keep("begin")

    def on_train_end(self, logs: dict | None = None) -> None:
        """Writes zeros where weights of a part of the fitted model are pruned."""
        stop_recording(self.fitted)
        # A sparse model that is fitted itself does so at the end of `fit`.
        if self.fitted is not self.model:
            self._write_zeros()

    def _write_zeros(self):
        if not self.model.selection.is_soft:
            self.model.apply_masks()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts the count of the epoch's batches."""
        self._count.begin_epoch(epoch)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Ends the training if it has failed; an override then returns without acting."""
        if not self._check(logs, weights=True, ends_epoch=True) and (reason := self.find_failure()):
            self.end_training(reason)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Reads the step at an epoch's first batch, after `on_epoch_begin` of all callbacks."""
        count = self._count
        if count.last_batch is None:
            self.reset_step()
            count.begin_batches(batch)
            is_first_epoch = count.epoch == count.first_epoch
            if self._good is not None and (not is_first_epoch or self._good.is_outdated()):
                self._good.keep(count.epoch)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Counts the batch, or the batches of one execution, and acts if a step is due."""
        self._count.end_batch(batch)
        is_due = self._due is not None and self.step >= self._due
        # Before the end of the epoch, since callbacks may save the model there.
        is_last = batch + 1 >= (self.params.get("steps") or math.inf)
        if self._check(logs, is_due or is_last) or not is_due:
            return
        # The count may be too high, so the optimizer's step is read before acting.
        self._count.read(self.optimizer)
        if self.step >= self._due:
            if self._good is not None and self.params.get("epochs") is None:
                self._good.keep(self.step)
            self.on_step()
            self._due = self.next_step()
