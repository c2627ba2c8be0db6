"""The count of training steps, by the batches that Keras reports."""

from tf_lottery.optimizers import training_step


class StepCount:
    """Counts the steps of a training, and the batches of its epochs.

    Reading the optimizer's step is slow on some backends, so batches are counted between two
    readings. Keras counts the last execution of an epoch as if it had all of its batches, and
    loss scaling can skip steps, so the count may be too high until the next reading.

    Attributes:
        step: Integer, the steps made so far.
        epoch: Integer, the current epoch. `None` before the first one.
        first_epoch: Integer, the epoch with which the training began. `None` before it.
        last_batch: Integer, the last batch of the epoch that has ended, one less than the first
            if none has. `None` before the first batch has begun.
    """

    def __init__(self):
        self.step = 0
        self.epoch = self.first_epoch = self.last_batch = None
        self._epoch_start = 0

    def read(self, optimizer):
        """Sets the step to that of a Keras optimizer."""
        self.step = training_step(optimizer)

    def begin_epoch(self, epoch):
        """Starts an epoch, whose first batch has not begun."""
        self.epoch, self.last_batch = epoch, None
        if self.first_epoch is None:
            self.first_epoch = epoch

    def begin_batches(self, batch):
        """Starts the count of the epoch's batches at the current step.

        Args:
            batch: Integer, the first batch.
        """
        self.last_batch, self._epoch_start = batch - 1, self.step

    def end_batch(self, batch):
        """Counts the batches since the last one that has ended: several in one execution."""
        self.step += batch - self.last_batch
        self.last_batch = batch

    def batches_done(self, optimizer, steps_per_execution, steps_per_epoch):
        """Returns the number of batches that the epoch has had so far.

        Args:
            optimizer: The Keras optimizer.
            steps_per_execution: Integer, as in `compile`.
            steps_per_epoch: Integer, the number of batches that Keras expects, or `None`.
        """
        counted = self.last_batch + 1
        shortest = counted - steps_per_execution + 1
        if shortest == counted or (steps_per_epoch is not None and counted <= steps_per_epoch):
            return counted
        # The last execution was counted as a full one. Where an epoch ends with the data, it was
        # not; with `steps_per_epoch`, it may have been.
        made = training_step(optimizer) - self._epoch_start
        return min(counted, max(shortest if steps_per_epoch is None else steps_per_epoch, made))
