"""Early-Bird tickets: stops training when the masks that pruning would give are stable."""

import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tf_lottery import _keras, files, hosts
from tf_lottery.callbacks.base import SparsityCallback
from tf_lottery.callbacks.resumable_folder import ResumableFolder
from tf_lottery.checks import choice, natural_number, number_above, positive_integer
from tf_lottery.kernel_ranking import kernel_scores, named_scores, ranked_masks, target_sparsity
from tf_lottery.model import check_settled
from tf_lottery.optimizers import training_step
from tf_lottery.printable import plain
from tf_lottery.snapshot import Snapshot
from tf_lottery.sparsity import masks as mask_ops
from tf_lottery.sparsity import patterns
from tf_lottery.ticket import Ticket


@keras.saving.register_keras_serializable("tf_lottery")
class EarlyBird(SparsityCallback):
    """Draws a ticket as soon as pruning would keep the same weights for several epochs.

    At the end of every epoch, it computes the masks that pruning would give, without pruning.
    When the masks of the last `window` epochs agree with the newest, it makes a ticket of the
    newest and stops training, early in a normal training ("Drawing Early-Bird Tickets",
    arXiv:1909.11957). The distance of two masks is the fraction of entries that differ, over
    all kernels. With `pattern="channel"` whole units are kept or pruned, as in the paper. The
    paper ranks units by the scales of batch normalization instead.

    Masks of density `d` differ in at most `2 * d` of their entries, and random masks in
    `2 * d * (1 - d)`. High sparsity therefore needs a lower threshold.

    From the second epoch on, the logs get `mask_distance`, the largest distance of the epoch's
    masks to the earlier masks in the window.

    Args:
        sparsity: Float in (0, 1), the sparsity of the masks. With `scope="layer"`, it can be a
            dict of kernel paths to fractions; see `tfl.prune`.
        threshold: Float >= 0, the largest distance at which masks agree. Defaults to `0.1`.
        window: Integer >= 2, the number of epochs whose masks must agree. Defaults to `5`.
        scores: Name or function; see `tfl.prune`. Defaults to `"magnitude"`.
        scope: `"layer"` ranks each kernel separately, `"global"` all weights together. Defaults
            to `"layer"`.
        pattern: A pattern, or its name. Defaults to `None`: that of the model.
        distribution: How the sparsity is distributed over the kernels, with `scope="layer"`; see
            `tfl.sparsify`. Defaults to `None`: uniform.
        floor: Integer >= 0, the minimum number of weights that every kernel keeps; see
            `tfl.prune`. Defaults to `1`.
        initial: Dict of kernel paths to the weights before training, or a `Snapshot`, for
            scores that compare with them. Defaults to `None`.
        stop_training: Whether to end `fit` when the ticket is drawn. Defaults to `True`.
        directory: Folder for the masks of the window, and the ticket as `ticket.npz`. With them,
            an interrupted training can be resumed: the masks of epochs that are trained again
            are discarded, and a finished search does not train again. Defaults to `None`:
            nothing is saved, and every `fit` is a new search.
        **kwargs: `sparse_model` and `optimizer`, if the sparse model is a part of the fitted
            model; see `tfl.callbacks.SparsityCallback`.

    Attributes:
        distances: List with a list per epoch, the distances of its masks to the earlier masks
            in the window, oldest first.
        ticket: The `Ticket`, with the weights at the end of its epoch, or `None`.
        epoch: Integer, the epoch at the end of which the ticket was drawn, counted from 0, or
            `None`.

    Raises:
        ValueError: If an argument is outside its range, or the threshold is so high that any two
            masks of this sparsity agree.

    Example:

    >>> sparse = tfl.sparsify(model)
    >>> sparse.compile("adam", loss)
    >>> search = EarlyBird(sparsity=0.7)
    >>> history = sparse.fit(x, y, epochs=30, callbacks=[search], verbose=0)
    >>> search.ticket.apply(sparse).unmatched
    {}
    >>> history = sparse.fit(x, y, epochs=10, verbose=0)
    """

    works_in_loops = False

    def __init__(
        self,
        sparsity: float | dict[str, float],
        threshold: float = 0.1,
        *,
        window: int = 5,
        scores: str | Callable = "magnitude",
        scope: str = "layer",
        pattern: patterns.Pattern | str | None = None,
        distribution: str | Callable | dict[str, float] | None = None,
        floor: int = 1,
        initial: dict[str, np.ndarray] | Snapshot | None = None,
        stop_training: bool = True,
        directory: str | os.PathLike | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.threshold = number_above("threshold", threshold, 0, inclusive=True)
        if positive_integer("window", window) < 2:
            raise ValueError(
                f"Argument `window` must be an integer >= 2. Received: window={window}"
            )
        if not isinstance(sparsity, dict):
            sparsity = _checked_sparsity(sparsity, self.threshold)
        self.sparsity = sparsity
        self.window = window
        self.scores = named_scores(scores)
        self.scope = choice("scope", scope, mask_ops.GROUP_SCOPES)
        self.pattern = None if pattern is None else patterns.get(pattern)
        self.distribution = distribution
        self.floor = natural_number("floor", floor)
        self.initial = initial
        self.stop_training = stop_training
        self.directory = directory
        self._folder: ResumableFolder = None
        self.distances, self.ticket, self.epoch = [], None, None
        self._epochs, self._masks, self._begins = [], {}, True

    @property
    def has_ended(self) -> bool:
        """Whether the ticket was drawn."""
        return self.ticket is not None

    def set_model(self, model: keras.Model) -> None:
        """Sets the model, which must be a `SparseModel` without soft gates."""
        super().set_model(model)
        check_settled(self.model)

    def masks_now(self) -> dict[str, np.ndarray]:
        """Returns a dict of kernel paths to the masks that pruning would give now."""
        sparsity = target_sparsity(
            self.model,
            self.sparsity,
            distribution=self.distribution,
            scope=self.scope,
            pattern=self.pattern,
        )
        values = kernel_scores(self.model, self.scores, initial=self.initial, pattern=self.pattern)
        return ranked_masks(
            self.model,
            values,
            sparsity,
            pattern=self.pattern,
            scope=self.scope,
            floor=self.floor,
        )

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts a search, or resumes the one in the directory."""
        super().on_train_begin(logs)
        # Raises errors about arguments before the first epoch.
        self.masks_now()
        self.distances, self.ticket, self.epoch = [], None, None
        self._epochs, self._masks, self._begins = [], {}, True
        if self.directory is not None:
            self._folder = ResumableFolder(self.directory, "early_bird", self._settings())
            if self._folder.exists():
                self._load()
        # An earlier callback that restores the weights, such as `BackupAndRestore`, has set the
        # first epoch in this way.
        resumed = _keras.first_epoch(self.fitted) or 0
        if self.has_ended and self.stop_training and resumed > self.epoch:
            _keras.set_first_epoch(self.fitted, self.params["epochs"])

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Discards the masks of epochs that are trained again."""
        super().on_epoch_begin(epoch, logs)
        if self._begins:
            self._masks = {e: masks for e, masks in self._masks.items() if e < epoch}
            self._epochs = [e for e in self._epochs if e < epoch]
            del self.distances[len(self._epochs) :]
            if self.has_ended and self.epoch >= epoch:
                self.ticket, self.epoch = None, None
        self._begins = False

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Compares the epoch's masks with those of the window, and draws the ticket."""
        super().on_epoch_end(epoch, logs)
        if self.failure is not None:
            return
        masks = self.masks_now()
        newest, window = list(masks.values()), list(self._masks.values())[1 - self.window :]
        distances = [mask_distance(newest, earlier) for earlier in window]
        self._epochs.append(epoch)
        self.distances.append(distances)
        self._masks[epoch] = newest
        # One more than the next epoch needs, in case this epoch is trained again.
        self._masks = dict(list(self._masks.items())[-self.window :])
        if distances and logs is not None:
            logs["mask_distance"] = max(distances)
        settled = len(distances) == self.window - 1 and max(distances) <= self.threshold
        if settled and not self.has_ended:
            self._draw(epoch, masks)
        if self._folder is not None:
            self._save()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Makes the next `fit` start at its own `initial_epoch`."""
        super().on_train_end(logs)
        _keras.set_first_epoch(self.fitted, None)

    def _draw(self, epoch, masks):
        ticket = Ticket.from_model(self.model)
        step = training_step(self.optimizer)
        provenance = {**ticket.provenance, "method": "early_bird", "epoch": epoch, "step": step}
        self.ticket = Ticket(masks, ticket.weights, provenance=provenance)
        self.epoch = epoch
        if self.stop_training:
            self.fitted.stop_training = True

    def _settings(self):
        names = ("sparsity", "threshold", "window", "scope", "floor")
        shapes = [list(kernel.shape) for kernel in self.model.kernels.values()]
        return {
            **{name: getattr(self, name) for name in names},
            "scores": plain(self.scores),
            "pattern": None if self.pattern is None else str(self.pattern),
            "distribution": plain(self.distribution),
            "shapes": shapes,
        }

    def _save(self):
        if self.has_ended:
            hosts.on_writer(self.ticket.save, self._folder.directory / "ticket.npz")
        arrays = {
            f"{epoch}/{i}": mask
            for epoch, masks in self._masks.items()
            for i, mask in enumerate(masks)
        }
        progress = {"epochs": self._epochs, "distances": self.distances, "epoch": self.epoch}
        self._folder.write(progress, arrays)

    def _load(self):
        fields = {"epochs": list, "distances": list, "epoch": (int, type(None))}
        progress, arrays = self._folder.read(fields)
        self._epochs, self.distances = progress["epochs"], progress["distances"]
        self.epoch = progress["epoch"]
        if self.epoch is not None:
            self.ticket = Ticket.load(self._folder.directory / "ticket.npz")
        with files.reading(self._folder.path, "early_bird"):
            shapes = [tuple(kernel.shape) for kernel in self.model.kernels.values()]
            # By number, since a model that is built again can have other paths.
            self._masks = {
                epoch: [arrays[f"{epoch}/{i}"] for i in range(len(shapes))]
                for epoch in self._epochs[-self.window :]
            }
            for masks in self._masks.values():
                if [mask.shape for mask in masks] != shapes or any(m.dtype != bool for m in masks):
                    raise ValueError("the masks are not those of the model")


def mask_distance(first, second):
    """Returns the fraction of entries in which the masks of two networks differ.

    Args:
        first: List of boolean arrays, one for every kernel.
        second: List of arrays of the same shapes.

    Returns:
        Float in [0, 1], the normalised Hamming distance over all kernels.

    Example:

    >>> mask_distance([np.array([True, False])], [np.array([True, True])])
    0.5
    """
    pairs = zip(first, second, strict=True)
    differing = sum(int(np.count_nonzero(one != other)) for one, other in pairs)
    return differing / sum(mask.size for mask in first)


def _checked_sparsity(sparsity, threshold):
    """Returns the sparsity, or raises a `ValueError` if any two of its masks would agree."""
    if not 0 < number_above("sparsity", sparsity, 0) < 1:
        raise ValueError(
            f"Argument `sparsity` must be above 0 and below 1. Received: sparsity={sparsity}"
        )
    largest = 2 * min(sparsity, 1 - sparsity)
    if threshold >= largest - 1e-9:
        raise ValueError(
            f"Argument `threshold` must be below {largest:.3g}, the largest distance that masks of "
            f"sparsity {sparsity} can have. Received: threshold={threshold}"
        )
    return float(sparsity)
