"""The base class of ticket searches, which make several trainings in one resumable `fit`."""

import os
import warnings
from typing import Any

import keras
import numpy as np

from tf_lottery import _keras
from tf_lottery.callbacks.base import SparsityCallback
from tf_lottery.callbacks.search_state import SearchState
from tf_lottery.optimizers import learning_rates, training_step
from tf_lottery.snapshot import Snapshot
from tf_lottery.ticket import Ticket


@keras.saving.register_keras_serializable("tf_lottery")
class TicketSearch(SparsityCallback):
    """A callback that trains a model in several levels of one `fit`.

    It counts the epochs of a level, stores the start and the rewind point, saves tickets, history
    and progress, and resumes an interrupted search. The subclass defines the length of levels and
    the changes between them: it overrides `last_level`, `epochs_in_level`, `start_level` and
    `end_level`, and lists in `setting_names` the attributes that affect the result.

    Args:
        directory: Folder for tickets and progress. Defaults to `None`: nothing is saved.
        verbose: Whether to print a line per level. Defaults to `None`: the setting of `fit`.
        **kwargs: `sparse_model` and `optimizer`, if the sparse model is a part of the fitted
            model; see `tfl.callbacks.SparsityCallback`.

    Attributes:
        tickets: List of `Ticket`.
        history: List with a dict per level: its number, `density` and `logs`, the values of
            every epoch by name.
        level: Integer, the current level.
    """

    works_in_loops = False
    # The name of a level in logs, history and messages.
    unit = "level"
    setting_names = ()
    # Further attributes that a resumed search needs. Their values must fit into JSON.
    progress_names = ()

    def __init__(
        self,
        directory: str | os.PathLike | None = None,
        verbose: bool | int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.directory = directory
        self.verbose = verbose
        self.tickets, self.history, self.level = [], [], 0
        self.rewind_to_epoch = None
        self._state = None
        self._first_step = 0
        self._epochs_done = self._fit_epoch = 0
        self._start: Snapshot = None
        self._rewind_point: Snapshot = None

    @property
    def last_level(self) -> int:
        """Integer, the last level of the search."""
        raise NotImplementedError

    def epochs_in_level(self) -> int:
        """Returns the number of epochs of the current level."""
        raise NotImplementedError

    def start_level(self) -> None:
        """Prepares the model for the current level. Not called for the first level."""
        raise NotImplementedError

    def starting_density(self) -> float:
        """Returns the initial density of the current level."""
        return self.model.density

    def end_level(self) -> None:
        """Acts when the last epoch of a level has ended."""

    def settings(self) -> dict:
        """Returns the settings that a resumed search must share, as a dict that fits into JSON."""
        return {name: getattr(self, name) for name in self.setting_names}

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts a search, or goes on with one that failed or that is in the directory."""
        failed = None if self.failure is None else self._good
        super().on_train_begin(logs)
        if self.directory is not None:
            self._state = SearchState(self.directory, self.settings())
        if self._state is not None and self._state.exists():
            self._resume()
            self._good.keep("resumed")
        elif failed is not None and self._fit_epoch and failed.training.model is self.model:
            self._go_on(failed.snapshot, self._fit_epoch)
            self._good.keep("resumed")
        else:
            self.begin()
        self.reset_step()

    def begin(self) -> None:
        """Starts a search with the current model."""
        self.tickets, self.history, self.level = [], [], 0
        self._epochs_done = self._fit_epoch = 0
        self._first_step = self.step
        self._start = self.snapshot()
        self._rewind_point = None
        self._begin_history()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts the next level if the current one has ended."""
        _keras.set_first_epoch(self.fitted, None)
        if self._level_has_ended() and self.level < self.last_level:
            self.level += 1
            self._epochs_done = 0
            self.start_level()
            self._begin_history()
        super().on_epoch_begin(epoch, logs)
        if self._epochs_done == 0:
            self.reset_step()
            self._announce()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Records the epoch, saves the progress and ends the search after the last level."""
        super().on_epoch_end(epoch, logs)
        if self.failure is not None:
            return
        self._epochs_done += 1
        self._fit_epoch = epoch + 1
        if self.level == 0 and self.rewind_to_epoch == self._epochs_done:
            self.take_rewind_point()
        logs = {} if logs is None else logs
        self.record(logs)
        if self._level_has_ended():
            self.end_level()
            if self.level == self.last_level:
                self.fitted.stop_training = True
        if self._state is not None:
            self._save()

    def record(self, logs: dict) -> None:
        """Adds the epoch to the history.

        Args:
            logs: Dict of the epoch's values. Those of the search are added to it.
        """
        logs.update({self.unit: self.level, "density": self.model.density})
        for name, value in logs.items():
            self.history[-1]["logs"].setdefault(name, []).append(np.asarray(value).tolist())

    def on_train_end(self, logs: dict | None = None) -> None:
        """Warns if the search is not finished."""
        super().on_train_end(logs)
        _keras.set_first_epoch(self.fitted, None)
        if self.failure is None and not self.has_ended():
            warnings.warn(
                f"The search ended in {self.unit} {self.level} of {self.last_level}, after "
                f"{self._epochs_done} of {self.epochs_in_level()} epochs. Call `fit` with "
                "`epochs=search.epochs` and without callbacks that stop training.",
                stacklevel=2,
            )

    def how_to_go_on(self) -> str:
        """Returns how to start a failed search again, for a message."""
        place = "this callback" if self.directory is None else f"{str(self.directory)!r}"
        return f"; with {place}, the next `fit` goes on from there"

    def restore(self, snapshot: Snapshot, kinds: tuple[str, ...] | None = None) -> None:
        """Sets the model and its optimizer to the state of a snapshot.

        Args:
            snapshot: A `Snapshot` that `self.snapshot()` made.
            kinds: Tuple of kinds of state. Defaults to `None`: all.
        """
        snapshot.restore(self.model, kinds, self.optimizer)

    def take_rewind_point(self) -> None:
        """Stores the training state to rewind to."""
        self._rewind_point = self.snapshot()

    def add_ticket(
        self, weights: dict[str, np.ndarray] | None, step: int | None = None, **provenance: Any
    ) -> None:
        """Adds a ticket of the model's masks, and saves it if the search has a directory.

        Args:
            weights: Dict of the initial weights, or `None` for those of the model.
            step: Integer, the step from which training with these weights goes on. Defaults to
                `None`: that of the optimizer.
            **provenance: Values that fit into JSON, added to the settings.
        """
        step = training_step(self.optimizer) if step is None else step
        provenance = {**self.settings(), "step": step, **provenance}
        ticket = Ticket.from_model(self.model, weights, self.level, provenance)
        self.tickets.append(ticket)
        if self._state is not None:
            self._state.save_ticket(ticket)

    def _begin_history(self):
        density = self.starting_density()
        self.history.append({self.unit: self.level, "density": density, "logs": {}})

    def has_ended(self) -> bool:
        """Returns whether the last level has been trained."""
        return self.level == self.last_level and self._level_has_ended()

    def _level_has_ended(self):
        return self._epochs_done >= self.epochs_in_level()

    def _announce(self):
        verbose = self.params.get("verbose", 1) if self.verbose is None else self.verbose
        if verbose:
            print(
                f"{self.unit.capitalize()} {self.level}/{self.last_level}: "
                f"density {self.history[-1]['density']:.2%}, "
                f"{self.epochs_in_level()} epochs from step {self.step}"
            )

    def _save(self):
        names = ("level", "history", *self.progress_names)
        progress = {
            **{name: getattr(self, name) for name in names},
            "epochs_done": self._epochs_done,
            "first_step": self._first_step,
            "num_tickets": len(self.tickets),
            "fit_epoch": self._fit_epoch,
        }
        self._state.save(progress, self.snapshot(), self._start, self._rewind_point)

    def _resume(self):
        progress, now, self._start, self._rewind_point = self._state.load(
            self.model, self.progress_names
        )
        for name in ("level", "history", *self.progress_names):
            setattr(self, name, progress[name])
        self._epochs_done = progress["epochs_done"]
        self._first_step = progress["first_step"]
        self.tickets = self._state.load_tickets(progress["num_tickets"])
        self._go_on(now, progress["fit_epoch"])

    def _go_on(self, now, fit_epoch):
        """Sets the model to a snapshot of this search, and skips the epochs that were trained."""
        rates = learning_rates(self.optimizer)
        if rates not in (self._start.learning_rates, now.learning_rates):
            # The model was compiled with other learning rates to go on with.
            now = now.with_learning_rates(rates)
            self._start = self._start.with_learning_rates(rates)
        self.restore(now)
        if self.level == 0 and self._rewind_point and self._rewind_point.step > now.step:
            # It was taken in the epoch that failed.
            self._rewind_point, self.tickets = None, []
        self._fit_epoch = fit_epoch
        _keras.set_first_epoch(self.fitted, fit_epoch)
        if self.has_ended():
            _keras.set_first_epoch(self.fitted, self.params["epochs"])
