"""The lottery ticket paper's measure of learning speed."""

import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras import ops

from tf_lottery import files, hosts
from tf_lottery.callbacks.base import SparsityCallback
from tf_lottery.checks import positive_integer


@keras.saving.register_keras_serializable("tf_lottery")
class EarlyStopIteration(SparsityCallback):
    """Finds the training step with the lowest validation loss.

    This is the iteration at which early stopping would stop, the measure of learning speed in
    "The Lottery Ticket Hypothesis" (arXiv:1803.03635, appendix C). Training itself is never
    stopped. When the step count is rewound, a new run starts, so every level of an iterative
    search has its own run. Its iterations are those of the optimizer, counted from the rewind
    step.

    At the end of every epoch, the logs get `early_stop_iteration`, `early_stop_loss` and the
    metrics at that step, for example `early_stop_accuracy`. These are means over the batches; a
    metric that is no mean over the examples, such as `AUC`, needs all of them in one batch.

    Args:
        validation_data: Tuple of arrays `(x, y)`, or an iterable of such batches that can be
            read repeatedly, for example a `tf.data.Dataset`.
        frequency: Integer > 0. Steps between two evaluations. Defaults to `100`.
        batch_size: Integer > 0. Examples per batch if arrays are given. Defaults to `1000`.
        path: JSON file to which the runs are saved, to resume an interrupted training. Defaults
            to `None`: no file.
        **kwargs: `sparse_model` and `optimizer`, if the sparse model is a part of the fitted
            model; see `tfl.callbacks.SparsityCallback`.

    Attributes:
        runs: List with a list per run, of its evaluations. Each is a dict of `epoch`,
            `iteration`, `loss` and the metrics.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> measure = EarlyStopIteration((x_val, y_val), frequency=5)
    >>> history = sparse.fit(x, y, epochs=10, callbacks=[measure], verbose=0)
    >>> measure.best()["iteration"]
    10
    """

    ends_failed_training = False

    def __init__(
        self,
        validation_data: tuple | Iterable,
        frequency: int = 100,
        *,
        batch_size: int = 1000,
        path: str | os.PathLike | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        problem = ""
        if isinstance(validation_data, Iterator):
            problem = f"a {type(validation_data).__name__}, which can be read only once"
        elif isinstance(validation_data, tuple) and len(validation_data) != 2:
            problem = f"a tuple of {len(validation_data)}"
        if problem:
            raise ValueError(
                "Argument `validation_data` must be `(x, y)` or an iterable of such batches that "
                f"can be read repeatedly. Received: {problem}"
            )
        self.validation_data = validation_data
        self.frequency = positive_integer("frequency", frequency)
        self.batch_size = positive_integer("batch_size", batch_size)
        self.path = None if path is None else pathlib.Path(path)
        self.runs = []

    def best(self, run: int = -1) -> dict:
        """Returns the first evaluation with the lowest loss.

        Args:
            run: Integer, the index of the run. Defaults to `-1`: the latest.

        Returns:
            Dict of `epoch`, `iteration`, `loss` and the compiled metrics.
        """
        return min(self.runs[run], key=lambda evaluation: evaluation["loss"])

    def next_step(self) -> int | None:
        """Returns the next multiple of `frequency`."""
        return (self.step // self.frequency + 1) * self.frequency

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts the first run, or loads the runs in the file."""
        super().on_train_begin(logs)
        self.runs = [[]]
        if self.path is not None and self.path.exists():
            self.runs = _read_runs(self.path)
        hosts.check_same(self.runs, "path", self.path)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Discards evaluations of epochs that are trained again."""
        super().on_epoch_begin(epoch, logs)
        if epoch == self._count.first_epoch:
            kept = [[e for e in run if e["epoch"] < epoch] for run in self.runs]
            self.runs = [run for run in kept if run] or [[]]

    def reset_step(self) -> None:
        """Reads the step from the optimizer. If it was set back, a new run starts."""
        before = self.step
        super().reset_step()
        if self.step < before and self.runs and self.runs[-1]:
            self.runs.append([])

    def on_step(self) -> None:
        """Evaluates the model, without changing the metrics of the epoch."""
        if self.runs[-1] and self.runs[-1][-1]["iteration"] >= self.step:
            self.runs.append([])
        metrics = self.model.metrics_variables
        values = [ops.convert_to_numpy(variable).copy() for variable in metrics]
        evaluation = {"epoch": self._count.epoch, "iteration": self.step, **self._evaluate()}
        self.runs[-1].append(evaluation)
        for variable, value in zip(metrics, values, strict=True):
            variable.assign(value)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the best evaluation of the run to `logs`."""
        super().on_epoch_end(epoch, logs)
        # A count that is too high would look as if the step had been set back afterwards.
        self._count.read(self.optimizer)
        if logs is not None and self.runs[-1]:
            best = {name: value for name, value in self.best().items() if name != "epoch"}
            logs.update({f"early_stop_{name}": value for name, value in best.items()})
        if self.path is not None:
            hosts.on_writer(self._write)

    def _write(self):
        with files.atomic_path(self.path) as temporary:
            temporary.write_text(json.dumps(self.runs))

    def _evaluate(self):
        totals, size = {}, 0
        for x, y in self._batches():
            self.model.reset_metrics()
            results = self.model.test_on_batch(x, y, return_dict=True)
            count = len(keras.tree.flatten(y)[0])
            size += count
            for name, value in results.items():
                totals[name] = totals.get(name, 0.0) + count * float(value)
        if not size:
            raise ValueError(
                "Argument `validation_data` must have at least one example. Received: none"
            )
        return {name: total / size for name, total in totals.items()}

    def _batches(self):
        if not isinstance(self.validation_data, tuple):
            yield from self.validation_data
            return
        x, y = self.validation_data
        for begin in range(0, len(keras.tree.flatten(y)[0]), self.batch_size):
            batch = slice(begin, begin + self.batch_size)
            yield keras.tree.map_structure(lambda a, batch=batch: a[batch], (x, y))


def _read_runs(path):
    with files.reading(path, "evaluations"):
        runs = json.loads(path.read_text())
        for evaluation in [evaluation for run in runs for evaluation in run]:
            numbers = {"epoch": int, "iteration": int, "loss": (int, float)}
            files.check_fields(evaluation, numbers)
    return runs
