"""The last state of a training in which loss and weights were finite."""

import math

import keras
import numpy as np

from tf_lottery import hosts
from tf_lottery.layers import Gates, GrowthMemory
from tf_lottery.layers.masked import masked_layers
from tf_lottery.optimizers import learning_rates, training_step
from tf_lottery.snapshot import Snapshot
from tf_lottery.training import optimizers_in

_NAMED = 3


class LastGoodState:
    """A copy of a training's state, and the search for values that are not finite.

    The callbacks of one `fit` share it, so that the state is copied once an epoch. It covers the
    sparse model and its optimizer, and what else the fitted model trains.

    Args:
        training: A `Training`.

    Attributes:
        snapshot: The `Snapshot` of the sparse model and its optimizer.
        failure: String, why the training failed, or `None`.
    """

    def __init__(self, training):
        self.training = training
        self.snapshot, self.failure = None, None
        self._moment, self._others, self._checked = None, [], None

    @classmethod
    def shared(cls, params, training):
        """Returns the state that the callbacks of a `fit` share, and makes it if there is none.

        Args:
            params: Dict, `Callback.params`. Keras gives the same one to all callbacks of a `fit`.
            training: A `Training`.
        """
        return params.setdefault("last_good_state", cls(training))

    def keep(self, moment):
        """Copies the state, unless another callback has copied it at this moment.

        Args:
            moment: The epoch or step that begins, or a string.
        """
        if moment != self._moment:
            training = self.training
            self.snapshot = Snapshot(training.model, training.optimizer)
            self._others = [
                (variable, hosts.to_numpy(variable).copy()) for variable in _others(self.training)
            ]
            self._moment, self._checked = moment, None

    def is_outdated(self):
        """Returns whether a callback has restored another step after the state was copied."""
        return training_step(self.training.optimizer) != self.snapshot.step

    def restore(self):
        """Sets the fitted model and its optimizers to the state that was kept."""
        self.snapshot.restore(self.training.model, optimizer=self.training.optimizer)
        for variable, value in self._others:
            if tuple(variable.shape) == value.shape:
                hosts.assign(variable, value)

    def find_failure(self, step, logs=None, weights=False, ends_epoch=False):
        """Returns what is not finite and why that may be, as a text, or `None`.

        Args:
            step: Integer, the current step.
            logs: Dict of losses and metrics. Defaults to `None`.
            weights: Whether to look at the weights even if the losses are finite. Defaults to
                `False`.
            ends_epoch: Whether the epoch ends with this step. Defaults to `False`.
        """
        losses = {name: value for name, value in (logs or {}).items() if _is_loss(name)}
        losses = {name: value for name, value in losses.items() if not math.isfinite(value)}
        # At the end of the epoch again, since other callbacks may have changed weights after the
        # last batch.
        if not losses and (not weights or self._checked == (step, ends_epoch)):
            return None
        sync(self.training.fitted)
        if hasattr(self.training.optimizer, "dynamic_scale") and not (
            ends_epoch and training_step(self.training.optimizer) == self.snapshot.step
        ):
            # Loss scaling skips steps that are not finite, but some steps were made.
            losses = {}
        self._checked = step, ends_epoch
        bad = not_finite(self.training)
        if not losses and not bad:
            return None
        found = [f"the {name} is {float(value)}" for name, value in losses.items()]
        if bad:
            others = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
            found.append(f"NaN or infinity is in {bad[:_NAMED]}{others}")
        is_first = bool(losses) and step == self.snapshot.step + 1 and self._moment == "begin"
        return f"at step {step} {' and '.join(found)}. {_advice(self.training, is_first)}"


def check_finite(training):
    """Raises a `ValueError` if weights are not finite when training begins.

    Args:
        training: A `Training`.
    """
    if bad := not_finite(training):
        raise ValueError(
            f"Argument `model` must have finite weights when training begins. Received: "
            f"{training.model.name!r} with NaN or infinity in {bad[:_NAMED]}"
        )


def not_finite(training):
    """Returns the names of weights and optimizer slots with NaN or infinity, kernels first.

    Args:
        training: A `Training`.
    """
    names = {id(kernel): path for path, kernel in training.model.kernels.items()}
    selection = training.model.selection
    if isinstance(selection, Gates):
        gates = zip(training.model.kernels, selection.gates, strict=True)
        names.update({id(gate): f"the gates of {path}" for path, gate in gates})
    # Gradients for growth may overflow in a step that loss scaling then skips.
    parts = [part for wrapper in masked_layers(training.fitted) for part in wrapper.parts]
    growth = [v for p in parts if p.kind == GrowthMemory.kind for v in p.variables]
    left_out = {id(variable) for variable in growth}
    variables = [*training.model.kernels.values(), *_all_variables(training)]
    # Each once, at its first place.
    once = {id(variable): variable for variable in variables}
    return [
        names.get(key, variable.path)
        for key, variable in once.items()
        if key not in left_out and not _is_finite(variable)
    ]


def sync(model):
    """Gives the variables of a model their current values, which JAX keeps elsewhere in `fit`.

    Args:
        model: The `keras.Model` that is fitted.
    """
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


def _is_finite(variable):
    # Single numbers are rates and scales.
    if "float" not in variable.dtype or not len(variable.shape):
        return True
    return bool(np.isfinite(hosts.to_numpy(variable)).all())


def _is_loss(name):
    return name.endswith("loss") and not name.startswith("val_")


def _all_variables(training):
    variables = list(training.model.variables) + list(training.fitted.variables)
    for optimizer in [training.optimizer, *optimizers_in(training.fitted)]:
        variables += [] if optimizer is None else optimizer.variables
    metrics = {id(variable) for variable in training.fitted.metrics_variables}
    return list({id(v): v for v in variables if id(v) not in metrics}.values())


def _others(training):
    """Returns the variables that a `Snapshot` of the sparse model leaves out."""
    own = {id(v) for v in [*training.model.variables, *training.optimizer.variables]}
    return [variable for variable in _all_variables(training) if id(variable) not in own]


def _advice(training, is_first):
    """Returns the likely cause, and what to do.

    Args:
        training: A `Training`.
        is_first: Whether the loss of the very first batch is not finite.
    """
    if is_first:
        return (
            "It was the first step, so the likely cause are the data: look for NaN, infinity and "
            "labels outside their range"
        )
    if any(layer.compute_dtype == "float16" for layer in training.model.model.layers):
        return (
            "The likely cause is the range of float16, which ends at 65504. Use "
            "'mixed_bfloat16', lower the learning rate, or add normalization"
        )
    rates = ", ".join(f"{rate:g}" for rate in learning_rates(training.optimizer) if rate)
    received = f", {rates}" if rates else ""
    return (
        f"The likely cause is the learning rate{received}. Lower the learning rate, clip gradients "
        "(`global_clipnorm` of the optimizer), or add normalization"
    )
