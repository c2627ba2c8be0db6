"""The base class of RigL, SET and SNFS, which drop and grow connections at constant density."""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tf_lottery import growth, hosts, optimizers
from tf_lottery.callbacks.base import END_OF_TRAINING, SparsityCallback
from tf_lottery.callbacks.untrained_masks import is_untrained_magnitude
from tf_lottery.callbacks.update_schedule import UpdateSchedule, end_of
from tf_lottery.checks import choice, fraction, natural_number, positive_integer
from tf_lottery.kernel_ranking import divided_kernels
from tf_lottery.sparsity import drop_and_grow, patterns
from tf_lottery.sparsity.patterns import Pattern
from tf_lottery.sparsity.schedules import Cosine

GROW_INITS = ("zeros", "gradient")


@keras.saving.register_keras_serializable("tf_lottery")
class DynamicSparseTraining(SparsityCallback):
    """Trains a sparse network, and moves its connections during training.

    Updates happen at the steps `begin_step + frequency`, `begin_step + 2 * frequency`, ... before
    `end_step`, and at `begin_step` itself if it is above 0. In an update, every kernel drops a
    share of its active weights, those of the smallest magnitude, and grows the same number where
    `grow_scores` is highest. Its density stays exactly the same. A weight that is dropped may
    grow again in the same update, and then keeps its value. New connections start at `grow_init`,
    with slots of the optimizer reset to zero, as in the official code of RigL. An update comes
    after the optimizer's step and does not replace it. Steps are batches. With
    `gradient_accumulation_steps` in the optimizer, an update waits for the batch at which the
    weights change, and gradients are means over the accumulated batches.

    Start from random masks, `tfl.sparsify(model, sparsity, scores="random", ...)`, as the papers
    and the official code do. Masks of the largest random weights leave only large weights, so that
    connections which grow at 0 are the first to be dropped again; a callback warns of such a
    start, and never redraws the masks or rescales the weights that it was given. A sparse network
    without normalization also needs `tfl.retrain.rescale_to_density`, since the signal of pruned
    layers vanishes.

    A subclass overrides `grow_scores` and, if it needs dense gradients, `gradient_average`. Both
    get and return NumPy arrays and plain numbers. A rule that combines several gradients reads
    `self.model.growth.gradients` in `on_train_batch_end`, before it calls `super()`: they are new
    after every step, and `self.model.to_matrices` makes of them the matrices that `grow_scores`
    gets. What a subclass keeps itself is not saved with the model. The optimizer's momentum does
    not help: pruned weights have no gradient there, so it is zero.

    Args:
        frequency: Integer > 0. Steps between two updates. Defaults to `100`.
        drop_fraction: Float in [0, 1), the share of the active weights to drop, annealed to 0 by
            a cosine until `end_step`; or a function of the step, such as
            `tfl.sparsity.schedules.InversePower`. Defaults to `0.3`.
        begin_step: Integer >= 0. Defaults to `0`.
        end_step: Integer. The last update happens before this step. Defaults to `None`: the end
            of the schedule `drop_fraction`, if it has one, otherwise 75% of the training that
            `fit` starts. In the latter case, `begin_step` also counts from the start of `fit`.
        grow_init: `"zeros"`, or `"gradient"`: the update of plain gradient descent,
            `-learning_rate * gradient`. Defaults to `"zeros"`.
        pattern: A pattern that the masks already follow, or its name. Defaults to `None`: that
            of the model. Whole channels can only grow without gradients, which they do not have.
            They start with random weights, and with the mean bias and normalization of the other
            channels of their group.
        seed: Integer >= 0, for random scores. Defaults to `0`.
        **kwargs: `sparse_model` and `optimizer`, if the sparse model is a part of the fitted
            model; see `tfl.callbacks.SparsityCallback`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> class Saliency(tfl.callbacks.DynamicSparseTraining):
    ...     '''Grows connections with a large gradient, with some noise.'''
    ...     gradient_average = (0.0, 1.0)
    ...     def grow_scores(self, name, weights, gradient, rng):
    ...         return np.abs(gradient) * rng.random(weights.shape)
    >>> method = Saliency(frequency=1, end_step=3)
    >>> history = sparse.fit(x, y, verbose=0, callbacks=[method])
    """

    sets_masks = True

    def __init__(
        self,
        frequency: int = 100,
        drop_fraction: float | Callable[[int], float] = 0.3,
        *,
        begin_step: int = 0,
        end_step: int | None = None,
        grow_init: str = "zeros",
        pattern: Pattern | str | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.frequency = positive_integer("frequency", frequency)
        if not callable(drop_fraction):
            drop_fraction = fraction("drop_fraction", drop_fraction)
        self.drop_fraction = drop_fraction
        begin_step = natural_number("begin_step", begin_step)
        if end_step is None:
            end_step = end_of(drop_fraction, begin_step)
        else:
            end_step = natural_number("end_step", end_step)
        if end_step is not None and end_step <= begin_step:
            raise ValueError(
                "Argument `end_step` must lie after `begin_step`. "
                f"Received: begin_step={begin_step}, end_step={end_step}"
            )
        self.begin_step, self.end_step = begin_step, end_step
        self.grow_init = choice("grow_init", grow_init, GROW_INITS)
        self.pattern = None if pattern is None else patterns.get(pattern)
        self.seed = natural_number("seed", seed)
        self._accumulated = 1
        self._schedule: UpdateSchedule = None
        self._paths: list[str] = []
        self._pattern: Pattern = self.pattern
        # The number of updates that are done.
        self._updated = 0
        self._replaced = []

    @property
    def gradient_average(self) -> tuple[float | None, float]:
        """Pair of floats: which dense gradients `grow_scores` gets.

        `(None, 1.0)`, the default, for none; `(0.0, 1.0)` for that of the last batch;
        `(0.9, 0.1)` for an exponential moving average; see `GrowthMemory`.
        """
        return None, 1.0

    def grow_scores(
        self,
        name: str,
        weights: np.ndarray,
        gradient: np.ndarray | None,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Returns the scores of all positions of a kernel. Those with the highest scores grow.

        Args:
            name: String, the name of the kernel, as in `SparseModel.kernels`.
            weights: Array, the kernel, zeros included: a matrix (inputs, outputs) if it has one.
            gradient: Array of the shape of `weights`; see `gradient_average`. `None` without
                dense gradients.
            rng: `numpy.random.Generator`, the same for the same seed, step and kernel.

        Returns:
            Float array of the shape of `weights`.
        """
        raise NotImplementedError(f"{type(self).__name__} must override `grow_scores`.")

    def num_grown(
        self,
        masks: dict[str, np.ndarray],
        fraction: float,
        gradients: dict[str, np.ndarray | None],
    ) -> dict[str, int] | None:
        """Returns how many connections every kernel grows.

        Args:
            masks: Dict of paths to boolean arrays, for the kernels that are updated: matrices
                (inputs, outputs) if they have them.
            fraction: Float, the share of the active weights to drop.
            gradients: Dict of paths to arrays of the same shapes, or to `None`.

        Returns:
            Dict of paths to integers, or `None` if every kernel grows as many as it drops.
        """
        del masks, fraction, gradients
        return None

    def set_model(self, model: keras.Model) -> None:
        """Sets the model, and prepares its `GrowthMemory`."""
        super().set_model(model)
        if self.grow_init == "gradient" and hasattr(self.optimizer, "optimizers"):
            raise ValueError(
                "Argument `grow_init` must be 'zeros' with a `MultiOptimizer`, which has no "
                "single learning rate. Received: grow_init='gradient'"
            )
        self.training.build_optimizer()
        self._accumulated = optimizers.accumulation_steps(self.optimizer)
        self._check_channels()
        self.check_model()
        growth.prepare_collecting(self.training, *self.gradient_average)

    def _check_channels(self):
        """Raises a `ValueError` if channels would have to grow by their gradients."""
        uses_gradients = self.gradient_average[0] is not None or self.grow_init == "gradient"
        if uses_gradients and self.model.couples(self.pattern):
            raise ValueError(
                f"{type(self).__name__} grows connections by their gradients, and a pruned channel "
                "has none: all weights that make it are zero. Use `tfl.callbacks.SET`, which "
                "grows channels at random, or a pattern of single weights or blocks. "
                f"Received: a model with the pattern '{self.pattern or self.model.pattern}'"
            )

    def check_model(self) -> None:
        """Raises a `ValueError` if the method does not suit the model."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts to collect dense gradients, if they are needed."""
        self._schedule = None
        if self.end_step is None:
            self.training_span()
        growth.start_collecting(self.training)
        super().on_train_begin(logs)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts the record of the epoch's updates."""
        super().on_epoch_begin(epoch, logs)
        self._replaced = []

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Plans the updates before the first batch, when all callbacks have restored state."""
        if self._schedule is None:
            self.reset_step()
            self._plan()
        super().on_train_batch_begin(batch, logs)

    def reset_step(self) -> None:
        """Reads the step from the optimizer, which may have been set back."""
        super().reset_step()
        if self._schedule is not None:
            self._updated = min(self._updated, self._num_due())

    def next_step(self) -> int | None:
        """Returns the next step at which connections are moved."""
        return None if self._schedule is None else self._schedule.next_step(self.step)

    def on_step(self) -> None:
        """Moves connections, unless gradients are not finite."""
        self._updated = self._num_due()
        step = self._schedule.steps[self._updated - 1]
        gradients = growth.collected_gradients(self.model)
        if not all(g is None or np.isfinite(g).all() for g in gradients.values()):
            warnings.warn(
                f"The gradients at step {step} are not finite, so no connections are moved. "
                "Lower the learning rate.",
                stacklevel=2,
            )
            return
        masks, share = self._growing_masks(), self._schedule.drop_fraction(step)
        collected = {path: g for path, g in gradients.items() if g is not None}
        matrices = {**dict.fromkeys(masks), **self.model.to_matrices(collected)}
        num_grown = self.num_grown(masks, share, matrices) or {}
        kernels = self.model.to_matrices(self.model.get_kernels(), self._pattern)
        new_masks = {}
        for i, (name, mask) in enumerate(masks.items()):
            rng = np.random.default_rng([self.seed, step, i])
            scores = self.grow_scores(name, kernels[name], matrices[name], rng)
            new_masks[name] = drop_and_grow(
                kernels[name], mask, scores, share, self._pattern, num_grown.get(name)
            )
        values = self._first_values(masks, gradients, step)
        new_masks = self.model.from_matrices(new_masks, self._pattern)
        num_new = growth.move_connections(self.training, new_masks, values)
        num_active = sum(np.count_nonzero(mask) for mask in masks.values())
        self._replaced.append(num_new / max(1, num_active))

    def _first_values(self, masks, gradients, step):
        """Returns a dict of kernel names to the values of new connections, `None` for zeros."""
        if self.model.couples(self._pattern):
            return growth.new_channel_values(self.model, np.random.default_rng([self.seed, step]))
        if self.grow_init == "gradient":
            return {path: growth.descent_step(self.training, gradients[path]) for path in masks}
        return None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds to `logs` the shares of new connections and of weights that were ever active.

        `replaced` is the share of active weights that are new, as a mean over the epoch's
        updates. `explored` is the exploration rate `R_s` of "Do We Actually Need Dense
        Over-Parameterization?" (arXiv:2102.02887).
        """
        super().on_epoch_end(epoch, logs)
        if logs is not None:
            explored = [hosts.to_numpy(e) for e in self.model.growth.explored]
            active, size = sum(map(np.count_nonzero, explored)), sum(e.size for e in explored)
            logs["replaced"] = float(np.mean(self._replaced)) if self._replaced else 0.0
            logs["explored"] = float(active / size)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Stops collecting gradients. Warns if training ended before the first update."""
        super().on_train_end(logs)
        steps = [] if self._schedule is None else self._schedule.steps
        if self.failure is None and steps and self.step < steps[0]:
            warnings.warn(
                f"Training ended at step {self.step}, before the first connections would have been "
                f"moved at step {steps[0]}: the masks are those of the start. Train longer "
                f"or set a `frequency` below {self.frequency}.",
                stacklevel=2,
            )
        growth.stop_collecting(self.training)

    def _plan(self):
        """Sets the schedule of the updates."""
        begin, end = self.begin_step, self.end_step
        if end is None:
            start, length = self.training_span()
            begin, end = start + begin, start + round(END_OF_TRAINING * length)
        first = begin if self.begin_step else begin + self.frequency
        steps = range(first, max(first, end), self.frequency)
        drop_fraction = self.drop_fraction
        if not callable(drop_fraction):
            drop_fraction = Cosine(drop_fraction, end_step=end, begin_step=begin)
        self._schedule = UpdateSchedule(steps, drop_fraction, self._accumulated)
        self._updated = self._num_due()
        self._paths, self._pattern = divided_kernels(self.model, self.pattern)
        self._check_masks()
        self._warn_of_start(end)

    def _check_masks(self):
        """Raises a `ValueError` if masks do not follow the pattern."""
        for path, mask in self._growing_masks().items():
            if not self._pattern.holds(mask):
                raise ValueError(
                    "Argument `pattern` must be one that the masks follow; prune the model to it. "
                    f"Received: pattern='{self._pattern}', but the mask of {path!r}, of density "
                    f"{mask.mean():.3f}, does not"
                )

    def _warn_of_start(self, end):
        """Warns if connections will not move, or if the first masks do not suit methods that grow.

        Args:
            end: Integer, the step before which updates happen.
        """
        is_resumed = bool(self._count.first_epoch)
        if not is_resumed and self._updated == len(self._schedule.steps):
            warnings.warn(
                "No connections will be moved: an update is due every "
                f"{self.frequency} steps before step {end}, and training begins at step "
                f"{self.step}. Train longer, lower `frequency` or raise `end_step`.",
                stacklevel=2,
            )
        elif not is_resumed and self.step == 0 and is_untrained_magnitude(self.model):
            warnings.warn(
                "The masks keep the largest of untrained weights, so that connections which grow "
                "at 0 are the first to be dropped again: start from random masks, "
                "`tfl.sparsify(..., scores='random')`, and use "
                "`tfl.retrain.rescale_to_density` if no normalization follows the kernels.",
                stacklevel=2,
            )
        elif not self._growing_masks():
            warnings.warn(
                "The model has no zeros in kernels that are trained, so there are no connections "
                "to move: prune it first, for example by `tfl.sparsify(model, sparsity=0.9)`.",
                stacklevel=2,
            )

    def _num_due(self):
        """Returns the number of updates that are due up to the current step."""
        return self._schedule.num_due(self.step)

    def _growing_masks(self):
        """Returns the masks, as matrices, of the kernels or groups that are trained and have zeros.

        Groups have no frozen kernels.
        """
        kernels, masks = self.model.kernels, self.model.get_masks()
        if self.model.couples(self._pattern):
            matrices = self.model.to_matrices(masks, self._pattern)
        else:
            trained = [path for path in self._paths if kernels[path].trainable]
            matrices = self.model.to_matrices({path: masks[path] for path in trained})
        return {name: mask for name, mask in matrices.items() if not mask.all()}
