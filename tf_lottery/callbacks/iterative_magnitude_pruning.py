"""Iterative magnitude pruning with rewinding: the search for lottery tickets."""

import os
from collections.abc import Callable
from typing import Any

import keras

from tf_lottery.callbacks.ticket_search import TicketSearch
from tf_lottery.checks import choice, natural_number, positive_integer
from tf_lottery.kernel_ranking import named_scores
from tf_lottery.optimizers import start_averages
from tf_lottery.printable import plain
from tf_lottery.pruning import prune
from tf_lottery.sparsity import levels as levels_ops
from tf_lottery.sparsity import masks as mask_ops
from tf_lottery.sparsity import patterns

REWINDS = ("weights", "learning_rate", "none")
OPTIMIZER_STATES = ("fresh", "rewound")


@keras.saving.register_keras_serializable("tf_lottery")
class IterativeMagnitudePruning(TicketSearch):
    """Searches for lottery tickets: trains, prunes and rewinds repeatedly in one `fit`.

    Level 0 trains the model without pruning. Every further level prunes the share `rate` of the
    remaining weights, those with the lowest scores, rewinds according to `rewind`, and trains
    again. After `fit`, the model is the trained network of the last level.

    | `rewind` | weights and statistics | step of the learning-rate schedule |
    |---|---|---|
    | `"weights"` | rewound (arXiv:1803.03635, arXiv:1912.05671) | rewound |
    | `"learning_rate"` | kept (arXiv:2003.02389) | rewound |
    | `"none"` | kept: fine-tuning | continues |

    Learning-rate schedules of the optimizer are rewound with the step. A `LearningRateScheduler`
    is not: it counts the epochs of `fit`, and must come after the search in the list of
    callbacks. A rewound level trains for the epochs between the rewind point and
    `epochs_per_level`, rounded up.

    Args:
        levels: Integer > 0. How many times to prune.
        epochs_per_level: Integer > 0. Epochs of level 0.
        rate: Float in (0, 1), the share of the remaining weights that a level prunes. With
            `scope="layer"`, it can be a dict of regular expressions to shares, such as
            `{"output": 0.1, ".": 0.2}`. The first expression that is found in a kernel's path, or
            in the name of a channel group, counts. Defaults to `0.2`.
        scope: `"layer"` ranks each kernel separately, as for the small networks of
            arXiv:1803.03635. `"global"` ranks all weights together, as for the deep networks of
            arXiv:1912.05671. Defaults to `"layer"`.
        scores: Name or function; see `tfl.prune`. Scores that compare with the start of
            training compare with the rewind point. Defaults to `"magnitude"`.
        pattern: A pattern, or its name. Defaults to `None`: that of the model.
        floor: Integer >= 0, the minimum number of weights that every kernel keeps; see
            `tfl.prune`. Defaults to `1`.
        rewind: `"weights"`, `"learning_rate"` or `"none"`. Defaults to `"weights"`.
        rewind_to_step: Integer >= 0, training steps since the search began, within level 0.
            Defaults to `None`.
        rewind_to_epoch: Integer >= 0, below `epochs_per_level`, instead of a step. Defaults
            to `None`. If both are `None`, the search rewinds to its start.
        optimizer_state: `"fresh"`, the state when the search began, or `"rewound"`, the state
            that belongs to the initial weights of a level. With `"fresh"` at a late step, the
            first steps of an adaptive optimizer are larger, since its bias correction is over. A
            schedule-free optimizer needs `"rewound"`, since its state contains weights. Defaults
            to `"fresh"`.
        directory: Folder for tickets and progress. An interrupted search resumes after its last
            epoch if it is started again with the same arguments. It ends with the same weights
            if the order of the data depends only on the epoch. Defaults to `None`: nothing is
            saved.
        verbose: Whether to print a line per level. Defaults to `None`: the setting of `fit`.
        seed: Integer >= 0, for `scores="random"`. Defaults to `0`.
        **kwargs: `sparse_model` and `optimizer`, if the sparse model is a part of the fitted
            model; see `tfl.callbacks.SparsityCallback`.

    Attributes:
        tickets: List with a `Ticket` per level: its masks and initial weights.
        history: List with a dict per level: `level`, `density` and `logs`, the values of
            every epoch by name.
        level: Integer, the current level.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> sparse = tfl.sparsify(model)
    >>> sparse.compile("adam", loss)
    >>> search = IterativeMagnitudePruning(levels=2, epochs_per_level=3, rewind_to_step=1)
    >>> history = sparse.fit(x, y, epochs=search.epochs, callbacks=[search], verbose=0)
    >>> search.tickets[-1].save("ticket.npz")
    >>> [ticket.density for ticket in search.tickets]
    [1.0, 0.8, 0.64]
    """

    sets_masks = True
    setting_names = (
        "epochs_per_level",
        "rate",
        "scope",
        "floor",
        "rewind",
        "rewind_to_step",
        "rewind_to_epoch",
        "optimizer_state",
        "seed",
    )
    progress_names = ("steps_per_epoch", "densities")

    def __init__(
        self,
        levels: int,
        epochs_per_level: int,
        *,
        rate: float | dict[str, float] = 0.2,
        scope: str = "layer",
        scores: str | Callable = "magnitude",
        pattern: patterns.Pattern | str | None = None,
        floor: int = 1,
        rewind: str = "weights",
        rewind_to_step: int | None = None,
        rewind_to_epoch: int | None = None,
        optimizer_state: str = "fresh",
        directory: str | os.PathLike | None = None,
        verbose: bool | int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(directory, verbose, **kwargs)
        self.levels = positive_integer("levels", levels)
        self.epochs_per_level = positive_integer("epochs_per_level", epochs_per_level)
        self.scope = choice("scope", scope, mask_ops.GROUP_SCOPES)
        self.rate = levels_ops.check_rate(rate, scope)
        self.scores = named_scores(scores)
        self.pattern = None if pattern is None else patterns.get(pattern)
        self.floor = natural_number("floor", floor)
        self.rewind = choice("rewind", rewind, REWINDS)
        self.optimizer_state = choice("optimizer_state", optimizer_state, OPTIMIZER_STATES)
        self.rewind_to_step, self.rewind_to_epoch = rewind_to_step, rewind_to_epoch
        self._check_rewind_point()
        self.seed = natural_number("seed", seed)
        self.steps_per_epoch = None
        self.densities = {}

    @property
    def last_level(self) -> int:
        """Integer, the last level of the search."""
        return self.levels

    @property
    def epochs(self) -> int:
        """Number of epochs that `fit` needs for all levels.

        With `rewind_to_step`, it is an upper bound: `fit` stops when the last level ends.
        """
        skipped = (self.rewind_to_epoch or 0) if self.rewind != "none" else 0
        return self.epochs_per_level + self.levels * (self.epochs_per_level - skipped)

    def next_step(self) -> int | None:
        """Returns the step to rewind to, or `None` if it has passed."""
        if self._rewind_point is None and self.rewind_to_step:
            return self._first_step + self.rewind_to_step
        return None

    def on_step(self) -> None:
        """Stores the rewind point."""
        self.take_rewind_point()

    def begin(self) -> None:
        """Starts a search with the current model."""
        super().begin()
        masks = self.model.to_matrices(self.model.get_masks(), self._pattern)
        self.densities = {name: (float(mask.mean()), mask.size) for name, mask in masks.items()}
        if not (self.rewind_to_step or self.rewind_to_epoch):
            self.take_rewind_point()

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts a search, or resumes the one in the directory."""
        super().on_train_begin(logs)
        self._check_later_levels()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Records the epoch, saves the progress and ends the search after the last level."""
        if self.failure is None:
            self.steps_per_epoch = self._batches_done()
        super().on_epoch_end(epoch, logs)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Warns if the search is not finished, or other callbacks undid its masks."""
        self.warn_if_undone(1.0 - self.history[-1]["density"])
        super().on_train_end(logs)

    def take_rewind_point(self) -> None:
        """Stores the training state to rewind to, and the ticket of level 0."""
        super().take_rewind_point()
        self._add_ticket(self._rewind_point.weights)

    def epochs_in_level(self) -> int:
        """Returns the number of epochs of the current level."""
        if self.level == 0 or self.rewind == "none":
            return self.epochs_per_level
        if self.rewind_to_epoch is not None:
            return self.epochs_per_level - self.rewind_to_epoch
        return self.epochs_per_level - (self.rewind_to_step or 0) // self.steps_per_epoch

    def start_level(self) -> None:
        """Prunes the trained network, and rewinds it for the next level."""
        # By number, since a model that is built again can have other paths.
        names = self.model.prunable_names(self._pattern)
        densities = dict(zip(names, self.densities.values(), strict=True))
        prune(
            self.model,
            levels_ops.level_sparsity(self.rate, self.level, densities, self.scope),
            scores=self.scores,
            scope=self.scope,
            pattern=self.pattern,
            floor=self.floor,
            initial=self._rewind_point,
            seed=[self.seed, self.level],
        )
        if self.rewind == "weights":
            self.restore(self._rewind_point, ("weights", "tweaks"))
            weights = self._rewind_point.weights
        else:
            weights = None
        if self.rewind != "none":
            self.restore(self._rewind_point, ("step",))
            self.restore(self._start, ("learning_rate",))
        if self.optimizer_state == "fresh":
            self.restore(self._start, ("optimizer",))
            start_averages(self.training.optimizer, self.training.trained_variables)
        elif self.rewind == "weights":
            self.restore(self._rewind_point, ("optimizer",))
        self.model.apply_masks()
        self.training.clear_pruned_slots()
        self._add_ticket(weights)

    def end_level(self) -> None:
        """Checks that there is a rewind point."""
        if self._rewind_point is None:
            raise ValueError(
                "Argument `rewind_to_step` must lie within the first level, which had "
                f"{self.step - self._first_step} steps. Received: {self.rewind_to_step}"
            )

    def settings(self) -> dict:
        """Returns the settings that a resumed search must share, as a dict that fits into JSON."""
        pattern = None if self.pattern is None else str(self.pattern)
        return {**super().settings(), "scores": plain(self.scores), "pattern": pattern}

    @property
    def _pattern(self):
        return self.model.pattern if self.pattern is None else self.pattern

    def _add_ticket(self, weights):
        self.add_ticket(weights, pattern=str(self._pattern))

    def _check_rewind_point(self):
        step, epoch = self.rewind_to_step, self.rewind_to_epoch
        if step is not None and epoch is not None:
            raise ValueError(
                "Arguments `rewind_to_step` and `rewind_to_epoch` exclude each other. "
                f"Received: rewind_to_step={step}, rewind_to_epoch={epoch}"
            )
        if step is not None:
            self.rewind_to_step = natural_number("rewind_to_step", step)
        if epoch is None:
            return
        self.rewind_to_epoch = natural_number("rewind_to_epoch", epoch)
        if epoch >= self.epochs_per_level:
            raise ValueError(
                "Argument `rewind_to_epoch` must lie within the first level, below "
                f"{self.epochs_per_level}. Received: rewind_to_epoch={epoch}"
            )

    def _check_later_levels(self):
        """Raises errors that would otherwise come only when a level has been trained."""
        levels_ops.rates_by_path(self.rate, self.model.prunable_names(self._pattern))
        steps_per_epoch = self.params.get("steps")
        limit = steps_per_epoch and steps_per_epoch * self.epochs_per_level
        if limit and (self.rewind_to_step or 0) >= limit:
            raise ValueError(
                "Argument `rewind_to_step` must lie within the first level, which has "
                f"{limit} steps. Received: rewind_to_step={self.rewind_to_step}"
            )
