"""What RigL, SET and SNFS share: drop weak connections, grow others, at equal density."""

import warnings
from collections.abc import Callable

import numpy as np
from keras import ops

from tf_lottery import growth, optimizers
from tf_lottery.callbacks.base import END_OF_TRAINING, SparsityCallback
from tf_lottery.checks import choice, fraction, natural_number, positive_integer
from tf_lottery.pruning import divided_kernels
from tf_lottery.sparsity import patterns
from tf_lottery.sparsity.masks import drop_and_grow
from tf_lottery.sparsity.patterns import Pattern
from tf_lottery.sparsity.schedules import Cosine

GROW_INITS = ("zeros", "gradient")


class DynamicSparseTraining(SparsityCallback):
    """Trains a sparse network from the start, moving its connections while it learns.

    At the steps `begin_step + frequency`, `begin_step + 2 * frequency`, ... before
    `end_step` (and at `begin_step` itself if it is above 0) every kernel drops a share of
    its active weights, those of the smallest magnitude, and grows as many where
    `grow_scores` is highest, so that its density stays the same to the weight. What was
    dropped in an update may grow again, and then keeps its value. New connections start
    at `grow_init`, with empty optimizer slots. The update follows the step of the
    optimizer, which is not left out. Steps are batches; with `gradient_accumulation_steps` in the
    optimizer an update waits for the batch at which the weights move, and gradients are means
    over the batches that the optimizer accumulates.

    A subclass overrides `grow_scores` and, if it needs dense gradients, `gradient_memory`.

    Args:
        frequency: Integer > 0. Steps between two updates. Defaults to `100`.
        drop_fraction: Float in [0, 1), the share of the active weights that is dropped, annealed
            to 0 by a cosine until `end_step`; or a schedule such as
            `tfl.sparsity.schedules.InversePower`, a function of the step. Defaults to
            `0.3`.
        begin_step: Integer >= 0. Defaults to `0`.
        end_step: Integer, the step before which the last update happens. Defaults to
            `None`: the schedule's, if `drop_fraction` is one that ends, else 75% of the
            training that `fit` begins; `begin_step` then counts from its start too.
        grow_init: `"zeros"`, or `"gradient"`: the step that plain gradient descent would
            make, `-learning_rate * gradient`. Defaults to `"zeros"`.
        pattern: A pattern, or its name, which the masks follow already. Defaults to `None`:
            that of the model.
        seed: Integer >= 0, for scores that are random. Defaults to `0`.
        **kwargs: `sparse_model` and `optimizer`, where the sparse model is a part of the one that
            is fitted; see `tfl.callbacks.SparsityCallback`.

    Raises:
        ValueError: If an argument is outside its range.
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
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.frequency = positive_integer("frequency", frequency)
        if not callable(drop_fraction):
            drop_fraction = fraction("drop_fraction", drop_fraction)
        self.drop_fraction = drop_fraction
        begin_step = natural_number("begin_step", begin_step)
        if end_step is None:
            end_step = _end_of(drop_fraction, begin_step)
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
        self._steps = None
        self._accumulated = 1
        self._schedule = None
        self._paths, self._pattern = [], self.pattern
        # Updates that are done.
        self._updated = 0
        self._replaced = []

    @property
    def gradient_memory(self) -> tuple[float | None, float]:
        """Pair `decay, gain` of the `GrowthMemory`; `None, 1.0` without dense gradients."""
        return None, 1.0

    def grow_scores(
        self, gradient: np.ndarray | None, shape: tuple[int, ...], rng: np.random.Generator
    ) -> np.ndarray:
        """Returns how much every position of a kernel deserves a connection.

        Args:
            gradient: Array of shape `shape`, what the `GrowthMemory` collected; `None` without
                dense gradients.
            shape: Tuple, the shape of the kernel, as a matrix if it is one.
            rng: `numpy.random.Generator`.

        Returns:
            Float array of shape `shape`.
        """
        raise NotImplementedError

    def num_grown(
        self,
        masks: dict[str, np.ndarray],
        fraction: float,
        gradients: dict[str, np.ndarray | None],
    ) -> dict[str, int] | None:
        """Returns how many connections every kernel grows, as a dict of paths to integers.

        Args:
            masks: Dict of paths to boolean arrays, of the kernels that take part.
            fraction: Float, the share of the active weights that is dropped.
            gradients: Dict of paths to arrays, or to `None`.

        Returns:
            Dict, or `None`: as many as were dropped.
        """
        del masks, fraction, gradients
        return None

    def set_model(self, model):
        """Takes the model and prepares what the method has to remember."""
        super().set_model(model)
        if self.grow_init == "gradient" and hasattr(self.optimizer, "optimizers"):
            raise ValueError(
                "Argument `grow_init` must be 'zeros' with a `MultiOptimizer`, which has no "
                "learning rate of its own. Received: grow_init='gradient'"
            )
        self.training.build_optimizer()
        self._accumulated = optimizers.accumulation_steps(self.optimizer)
        self.check_model()
        growth.prepare_collecting(self.training, *self.gradient_memory)

    def check_model(self):
        """Raises a `ValueError` if the method does not suit the model."""

    def on_train_begin(self, logs=None):
        """Starts to collect dense gradients, if they are needed."""
        self._steps = None
        if self.end_step is None:
            self.training_span()
        growth.start_collecting(self.training)
        super().on_train_begin(logs)

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the record of the epoch's updates."""
        super().on_epoch_begin(epoch, logs)
        self._replaced = []

    def on_train_batch_begin(self, batch, logs=None):
        """Plans the updates before the first batch, after all callbacks restored their state."""
        if self._steps is None:
            self.reset_step()
            self._plan()
        super().on_train_batch_begin(batch, logs)

    def reset_step(self):
        """Takes over the optimizer's step, which may have been set back."""
        super().reset_step()
        if self._steps is not None:
            self._updated = min(self._updated, self._num_due())

    def next_step(self):
        """Returns the next step at which connections are moved."""
        later = [] if self._steps is None else self._steps[self._num_due() :]
        # The first batch at or after it at which the optimizer moves weights.
        return -(-later[0] // self._accumulated) * self._accumulated if later else None

    def on_step(self):
        """Moves connections, unless a gradient is not finite."""
        self._updated = self._num_due()
        step = self._steps[self._updated - 1]
        gradients = growth.collected_gradients(self.model)
        if not all(g is None or np.isfinite(g).all() for g in gradients.values()):
            warnings.warn(
                f"The gradients at step {step} are not finite: connections stay as they are. "
                "Lower the learning rate.",
                stacklevel=2,
            )
            return
        masks, share = self._growing_masks(), self._schedule(step)
        num_grown = self.num_grown(masks, share, gradients) or {}
        matrices = self.model.to_matrices(masks)
        kernels = self.model.to_matrices(self.model.get_kernels())
        new_masks = {}
        for i, (path, mask) in enumerate(matrices.items()):
            gradient = None if gradients[path] is None else gradients[path].reshape(mask.shape)
            rng = np.random.default_rng([self.seed, step, i])
            scores = self.grow_scores(gradient, mask.shape, rng)
            new_masks[path] = drop_and_grow(
                kernels[path], mask, scores, share, self._pattern, num_grown.get(path)
            )
        values = None
        if self.grow_init == "gradient":
            values = {path: growth.descent_step(self.training, gradients[path]) for path in masks}
        new_masks = self.model.from_matrices(new_masks)
        num_new = growth.move_connections(self.training, new_masks, values)
        num_active = sum(np.count_nonzero(mask) for mask in masks.values())
        self._replaced.append(num_new / max(1, num_active))

    def on_epoch_end(self, epoch, logs=None):
        """Adds to `logs` the shares of connections replaced and of weights ever active.

        `replaced` is the mean over the epoch's updates of the share of active weights that
        are new; `explored` the exploration rate of "Do We Actually Need Dense
        Over-Parameterization?" (arXiv:2102.02887), R_s there.
        """
        if logs is not None:
            explored = [ops.convert_to_numpy(e) for e in self.model.growth.explored]
            active, size = sum(map(np.count_nonzero, explored)), sum(e.size for e in explored)
            logs["replaced"] = float(np.mean(self._replaced)) if self._replaced else 0.0
            logs["explored"] = float(active / size)

    def on_train_end(self, logs=None):
        """Ends the collection of gradients; warns if training was too short to move anything."""
        if self._steps and self.step < self._steps[0]:
            warnings.warn(
                f"Training ended at step {self.step}, before the first connections were to be "
                f"moved at step {self._steps[0]}: the masks are those of the start. Train longer "
                f"or set a `frequency` below {self.frequency}.",
                stacklevel=2,
            )
        growth.stop_collecting(self.training)

    def _plan(self):
        """Fixes the steps of all updates and the schedule of the drop fraction."""
        begin, end = self.begin_step, self.end_step
        if end is None:
            start, length = self.training_span()
            begin, end = start + begin, start + round(END_OF_TRAINING * length)
        first = begin if self.begin_step else begin + self.frequency
        self._steps = range(first, max(first, end), self.frequency)
        self._schedule = self.drop_fraction
        if not callable(self._schedule):
            self._schedule = Cosine(self.drop_fraction, end_step=end, begin_step=begin)
        self._updated = self._num_due()
        self._paths, self._pattern = divided_kernels(self.model, self.pattern)
        for path, mask in self.model.to_matrices(self._growing_masks()).items():
            if not self._pattern.holds(mask):
                raise ValueError(
                    "Argument `pattern` must be one that the masks follow; prune to it first. "
                    f"Received: pattern='{self._pattern}', but the mask of {path!r}, of density "
                    f"{mask.mean():.3f}, does not"
                )
        if self._updated == len(self._steps) and not self._first_epoch:
            warnings.warn(
                "No connections will be moved: an update is due every "
                f"{self.frequency} steps before step {end}, and training begins at step "
                f"{self.step}. Train longer, lower `frequency` or raise `end_step`.",
                stacklevel=2,
            )
        elif not self._growing_masks():
            warnings.warn(
                "The model has no zeros in kernels that are trained, so that there are no "
                "connections to move: prune it first, as by `tfl.sparsify(model, sparsity=0.9)`.",
                stacklevel=2,
            )

    def _num_due(self):
        """Returns how many updates are due up to the current step."""
        # Of a range, so it counts without a search.
        passed = self.step - self.step % self._accumulated - self._steps.start
        return min(max(0, passed // self.frequency + 1), len(self._steps))

    def _growing_masks(self):
        """Returns the masks of the kernels that are trained and have zeros."""
        kernels, masks = self.model.kernels, self.model.get_masks()
        return {
            path: masks[path]
            for path in self._paths
            if kernels[path].trainable and not masks[path].all()
        }


def _end_of(drop_fraction, begin_step):
    """Returns the step after `begin_step` from which a schedule is 0, `None` if there is none."""
    end_step = getattr(drop_fraction, "end_step", None)
    if end_step is None or end_step <= begin_step or drop_fraction(end_step) > 0:
        return None
    return end_step
