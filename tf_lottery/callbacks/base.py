"""What the callbacks share: a sparse model and a count of training steps."""

import warnings

import keras

from tf_lottery.model import check_settled, check_sparse_model
from tf_lottery.snapshot import training_step


class SparsityCallback(keras.callbacks.Callback):
    """A callback that acts on a `SparseModel` at certain training steps.

    Steps are those of the optimizer, so that they go on when training is resumed. With
    `steps_per_execution` above one a callback acts at the first chance at or after the
    step that is due.

    A subclass overrides `next_step`, which names the step that is due next, and
    `on_step`, which acts. If it sets masks, it says so by `sets_masks`, and is refused where
    soft gates decide about them.

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

    def __init__(self):
        super().__init__()
        self._step = 0
        self._due = None
        self._last_batch = None

    def set_model(self, model):
        """Takes the model, which must be a `SparseModel` that suits the callback."""
        (check_settled if self.sets_masks else check_sparse_model)(model)
        super().set_model(model)

    @property
    def step(self):
        """Integer, the number of training steps made so far."""
        return self._step

    def next_step(self):
        """Returns the step after the current one at which to act, or `None`."""
        return None

    def on_step(self):
        """Acts. The variables of the model are up to date and can be set."""

    def reset_step(self):
        """Takes over the optimizer's step, after it was set or training began."""
        self._step = training_step(self.model.optimizer)
        self._due = self.next_step()

    def warn_if_undone(self, sparsity):
        """Warns if other callbacks took pruning back, as those do that restore weights.

        Args:
            sparsity: Float, what the model had when this callback last set it.
        """
        if self.model.sparsity < sparsity - 1e-9:
            warnings.warn(
                f"The sparsity was {sparsity:.3f} and is {self.model.sparsity:.3f} after training: "
                "a callback restored weights of an earlier time, masks included. Let callbacks "
                "like `EarlyStopping(restore_best_weights=True)` start when pruning has ended.",
                stacklevel=2,
            )

    def on_train_begin(self, logs=None):
        """Starts to count from the optimizer's step."""
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        self.reset_step()

    def on_epoch_begin(self, epoch, logs=None):
        """Starts to count the epoch's batches."""
        self._last_batch = None

    def on_train_batch_begin(self, batch, logs=None):
        """Takes over the step at an epoch's first batch, after all callbacks began it."""
        if self._last_batch is None:
            self._last_batch = batch - 1
            self.reset_step()

    def on_train_batch_end(self, batch, logs=None):
        """Counts the batch, or the chunk of batches, and acts if a step is due."""
        self._step += batch - self._last_batch
        self._last_batch = batch
        if self._due is None or self._step < self._due:
            return
        # Reading the step is not free on every backend, so batches are counted; but a loss
        # scale skips steps, so what is due is confirmed with the optimizer.
        self._step = training_step(self.model.optimizer)
        if self._step >= self._due:
            self.on_step()
            self._due = self.next_step()
