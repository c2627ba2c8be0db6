"""What RigL, SET and SNFS share: drop weak connections, grow others, at equal density."""

import contextlib
import warnings

import numpy as np
from keras import ops

from tf_lottery import optimizers
from tf_lottery.callbacks.base import SparsityCallback
from tf_lottery.checks import choice, fraction, positive_integer
from tf_lottery.pruning import divided_kernels
from tf_lottery.sparsity import patterns
from tf_lottery.sparsity.masks import drop_and_grow
from tf_lottery.sparsity.schedules import Cosine

END_OF_TRAINING = 0.75
GROW_INITS = ("zeros", "gradient")


class DynamicSparseTraining(SparsityCallback):
    """Trains a sparse network from the start, moving its connections while it learns.

    At the steps `begin_step + frequency`, `begin_step + 2 * frequency`, ... before
    `end_step` (and at `begin_step` itself if it is above 0) every kernel drops a share of
    its active weights, those of the smallest magnitude, and grows as many where
    `grow_scores` is highest, so that its density stays the same to the weight. What was
    dropped in an update may grow again, and then keeps its value. New connections start
    at `grow_init`, with empty optimizer slots. The update follows the step of the
    optimizer, which is not left out.

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
        seed: Integer, for scores that are random. Defaults to `0`.

    Raises:
        ValueError: If an argument is outside its range.
    """

    def __init__(
        self,
        frequency=100,
        drop_fraction=0.3,
        begin_step=0,
        end_step=None,
        grow_init="zeros",
        pattern=None,
        seed=0,
    ):
        super().__init__()
        self.frequency = positive_integer("frequency", frequency)
        if not callable(drop_fraction):
            drop_fraction = fraction("drop_fraction", drop_fraction)
        self.drop_fraction = drop_fraction
        if begin_step < 0:
            raise ValueError(
                f"Argument `begin_step` must be >= 0. Received: begin_step={begin_step}"
            )
        if end_step is None:
            end_step = _end_of(drop_fraction)
        if end_step is not None and end_step <= begin_step:
            raise ValueError(
                "Argument `end_step` must lie after `begin_step`. "
                f"Received: begin_step={begin_step}, end_step={end_step}"
            )
        self.begin_step, self.end_step = begin_step, end_step
        self.grow_init = choice("grow_init", grow_init, GROW_INITS)
        self.pattern = None if pattern is None else patterns.get(pattern)
        self.seed = seed
        self._first_epoch = None
        self._steps = None
        self._schedule = None
        self._paths, self._pattern = [], self.pattern
        self._updated = None
        self._replaced = []

    @property
    def gradient_memory(self):
        """Pair `decay, gain` of the `GrowthState` that is needed; `None, 1.0` without gradients."""
        return None, 1.0

    def grow_scores(self, gradient, shape, rng):
        """Returns how much every position of a kernel deserves a connection.

        Args:
            gradient: Array of shape `shape`, what the `GrowthState` collected; `None` without
                dense gradients.
            shape: Tuple, the shape of the kernel, as a matrix if it is one.
            rng: `numpy.random.Generator`.

        Returns:
            Float array of shape `shape`.
        """
        raise NotImplementedError

    def num_grown(self, masks, fraction, gradients):
        """Returns how many connections every kernel grows, as a dict of paths to integers.

        Args:
            masks: Dict of paths to boolean arrays, of the kernels that take part.
            fraction: Float, the share of the active weights that is dropped.
            gradients: Dict of paths to arrays, or to `None`.

        Returns:
            Dict, or `None`: as many as were dropped.
        """
        del masks, fraction, gradients

    def set_model(self, model):
        """Takes the model and lets it collect dense gradients, if they are needed."""
        super().set_model(model)
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        self._stop_collecting()
        with _scope(model):
            growth = model.masked.remember_growth(*self.gradient_memory)
        if growth.gradients:
            optimizers.add_overwritten(model.optimizer, growth.gradients)
            growth.collect(True)
        # `fit` makes the function anew, with or without the gradients.
        model.train_function = None

    def on_train_begin(self, logs=None):
        """Starts to count; the plan is made when the first epoch begins."""
        self._first_epoch, self._steps, self._updated = None, None, None
        super().on_train_begin(logs)

    def on_epoch_begin(self, epoch, logs=None):
        """Notes the first epoch of this training."""
        super().on_epoch_begin(epoch, logs)
        self._replaced = []
        if self._first_epoch is None:
            self._first_epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        """Plans the updates before the first batch, after all callbacks restored their state."""
        if self._steps is None:
            self.reset_step()
            self._plan()
        super().on_train_batch_begin(batch, logs)

    def next_step(self):
        """Returns the next step at which connections are moved."""
        later = [] if self._steps is None else self._steps[self._num_due() :]
        return later[0] if later else None

    def on_step(self):
        """Moves connections, unless a gradient is not finite."""
        self._updated = self._num_due()
        step = self._steps[self._updated - 1]
        gradients = self._gradients()
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
        self._move(masks, self.model.from_matrices(new_masks), gradients)

    def on_epoch_end(self, epoch, logs=None):
        """Adds to `logs` the shares of connections replaced and of weights ever active.

        `replaced` is the mean over the epoch's updates of the share of active weights that
        are new; `explored` the exploration rate of "Do We Actually Need Dense
        Over-Parameterization?" (arXiv:2102.02887), R_s there.
        """
        if logs is not None:
            explored = [ops.convert_to_numpy(e) for e in self.model.masked.growth.explored]
            active, size = sum(map(np.count_nonzero, explored)), sum(e.size for e in explored)
            logs["replaced"] = float(np.mean(self._replaced)) if self._replaced else 0.0
            logs["explored"] = float(active / size)

    def on_train_end(self, logs=None):
        """Ends the collection of gradients; warns if nothing was ever moved."""
        if self._steps and self.step < self._steps[0]:
            warnings.warn(
                f"Training ended at step {self.step}, before the first connections were to be "
                f"moved at step {self._steps[0]}: the masks are those of the start. Train longer "
                f"or set a `frequency` below {self.frequency}.",
                stacklevel=2,
            )
        self._stop_collecting()

    def _plan(self):
        """Fixes the steps of all updates and the schedule of the drop fraction."""
        begin, end = self.begin_step, self.end_step
        if end is None:
            epochs, steps = self.params.get("epochs"), self.params.get("steps")
            if not epochs or not steps:
                raise ValueError(
                    "Argument `end_step` must be given if the number of training steps cannot be "
                    f"known. Received: end_step=None, epochs={epochs}, steps per epoch: {steps}"
                )
            start = self.step - self._first_epoch * steps
            begin, end = start + begin, start + round(END_OF_TRAINING * epochs * steps)
        first = begin if self.begin_step else begin + self.frequency
        self._steps = range(first, max(first, end), self.frequency)
        self._schedule = self.drop_fraction
        if not callable(self._schedule):
            self._schedule = Cosine(self.drop_fraction, end_step=end, begin_step=begin)
        self._updated = self._num_due()
        self._paths, self._pattern = divided_kernels(self.model, self.pattern)
        if not self._growing_masks():
            warnings.warn(
                "The model has no zeros in kernels that are trained, so there are no connections "
                "to move: prune it first, as by `tfl.sparsify(model, sparsity=0.9)`.",
                stacklevel=2,
            )

    def _num_due(self):
        """Returns how many updates are due up to the current step."""
        # Of a range, so it counts without a search.
        passed = self.step - self._steps.start
        return min(max(0, passed // self.frequency + 1), len(self._steps))

    def _growing_masks(self):
        """Returns the masks of the kernels that are trained and have zeros."""
        kernels, masks = self.model.kernels, self.model.get_masks()
        return {
            path: masks[path]
            for path in self._paths
            if kernels[path].trainable and not masks[path].all()
        }

    def _gradients(self):
        paths, gradients = self.model.masked.paths, self.model.masked.growth.gradients
        if not gradients:
            return dict.fromkeys(paths)
        return dict(zip(paths, map(ops.convert_to_numpy, gradients), strict=True))

    def _move(self, masks, new_masks, gradients):
        """Sets the masks, the values of new connections and their optimizer slots."""
        model = self.model
        # Effective values: what an optimizer did to hidden ones must not come to light.
        values, kernels, trained = model.get_kernels(), model.kernels, model.trainable_variables
        positions = {id(variable): i for i, variable in enumerate(trained)}
        slots = optimizers.slots(model.optimizer, trained)
        num_new = 0
        for path, mask in masks.items():
            new = new_masks[path] & ~mask
            num_new += np.count_nonzero(new)
            if self.grow_init == "gradient":
                values[path][new] = self._step_along(gradients[path][new])
            kernels[path].assign(values[path])
            for kind, slot in slots[positions[id(kernels[path])]].items():
                start = values[path] if kind == "average" else 0.0
                slot.assign(ops.where(new, start, slot.value))
        model.set_masks(new_masks)
        num_active = sum(np.count_nonzero(mask) for mask in masks.values())
        self._replaced.append(num_new / max(1, num_active))
        model.masked.growth.explore(list(model.get_masks().values()))

    def _step_along(self, gradient):
        """Returns the step of plain gradient descent."""
        optimizer = self.model.optimizer
        # Keras divides the loss by the number of replicas, to sum their gradients.
        replicas = _strategy(self.model).num_replicas_in_sync if _strategy(self.model) else 1
        scale = replicas / optimizers.loss_scale(optimizer)
        return -float(ops.convert_to_numpy(optimizer.learning_rate)) * scale * gradient

    def _stop_collecting(self):
        masked = self.model.masked
        if masked.growth is None or not masked.growth.gradients:
            return
        optimizers.remove_overwritten(self.model.optimizer, masked.growth.gradients)
        masked.growth.collect(False)
        if not masked.growth.decay:
            with _scope(self.model):
                masked.remember_growth()
        self.model.train_function = None


def _end_of(drop_fraction):
    """Returns the step from which a schedule is 0, `None` if there is none."""
    end_step = getattr(drop_fraction, "end_step", None)
    return end_step if end_step is not None and drop_fraction(end_step) == 0 else None


def _strategy(model):
    """Returns the `tf.distribute` strategy of a model, `None` on other backends."""
    return getattr(model, "distribute_strategy", None)


def _scope(model):
    """Returns the context in which variables of the model have to be made."""
    strategy = _strategy(model)
    return contextlib.nullcontext() if strategy is None else strategy.scope()
