"""Continuous Sparsification: gates that learn which weights to keep."""

import functools
import os
from typing import Any

import keras
from keras import ops

from tf_lottery.callbacks.gate_health import ALL_CLOSED, warn_of_doubts, warn_of_soft_gates
from tf_lottery.callbacks.gate_rounds import (
    forget_gates,
    hard_weights,
    keep_exactly,
    reset_gates,
    settle_gates,
)
from tf_lottery.callbacks.ticket_search import TicketSearch
from tf_lottery.checks import (
    choice,
    fraction,
    natural_number,
    number_above,
    positive_integer,
)
from tf_lottery.layers import Gates
from tf_lottery.optimizers import clear_slots
from tf_lottery.sparsity import gates as gate_ops

MODES = ("ticket", "prune")
ANNEALS = ("step", "epoch")


@keras.saving.register_keras_serializable("tf_lottery")
class ContinuousSparsification(TicketSearch):
    """Learns with soft gates which weights to keep, in several rounds of one `fit`.

    "Winning the Lottery with Continuous Sparsification" (Savarese et al., arXiv:1912.04427,
    algorithm 2). In a round, the temperature of the gates rises exponentially from 1 to
    `final_temperature`, so that they become 0 or 1. Between rounds, the weights are kept, `s` is
    set to `min(final_temperature * s, initial_value)`, and learning-rate schedules of the
    optimizer restart. This reopens the gates above 0 and moves the others far below 0. After the
    last round, the gates are settled: a weight is kept where `s > 0`. Then the weights are
    rewound and trained with these masks (`"ticket"`), or kept (`"prune"`). In a second search,
    weights that the first one pruned stay pruned.

    Validation during `fit`, with all `val_` values, uses the hard gates `s > 0`. This is the
    network that would be deployed, before changes by `exact_density`. The logs of an epoch get
    `round`; `density`, the share of gates that are above 0; `undecided`, the share of gates whose
    sigmoid is between 0.01 and 0.99; `temperature`; and `gate_penalty`, the loss that the gates
    add.

    The optimizer's step restarts with its schedules, but its slots of the weights, such as
    momentum, stay, as in the official code. So Adam, and others that correct a bias by the step,
    make smaller updates of the weights at the beginning of later rounds: Adam 0.15 to 0.32 of full
    ones in the first hundred steps, 0.8 after a thousand. In short rounds, SGD avoids it.

    In the official code a round has 29,920 steps; weights and gates each have SGD at 0.1 with
    Nesterov momentum, and rates fall to a tenth after two thirds and again after five sixths of
    every round. To do so, compile with a schedule as long as a round, and give the `SoftGate` an
    `optimizer` with the same. In shorter rounds undecided gates are a sign that they move too
    little. A comparison with another search needs the same rewind point for both.

    If a training step calls the sparse model several times, as in a Siamese network or a GAN, the
    temperature still rises by steps: calls are counted in the first batch of a round, or its first
    `steps_per_execution`. With `anneal="epoch"`, each call then adds the penalty.

    Callbacks that save or restore weights, such as `EarlyStopping` and `ModelCheckpoint`, must
    come after the search in the list, and start when it retrains. A `LearningRateScheduler`
    counts the epochs of `fit` and does not restart.

    With stochastic gates, the temperature stays 1. Between rounds, gates below their initial
    value are closed: Iterative Stochastic Sparsification.

    If all gates are closed at the end of a round, the search ends as it does when the loss is not
    finite: with a warning, and with the model as it was before the epoch.

    Args:
        epochs_per_round: Integer > 0, above 1 with `anneal="epoch"`.
        rounds: Integer > 0. Defaults to `3`.
        final_temperature: Float > 1. Defaults to `200.0`.
        rewind_to_epoch: Integer >= 0, below `epochs_per_round`. The weights and batch statistics
            are rewound to those after this many epochs of the first round. No effect with
            `mode="prune"`. Defaults to `None`: 2, or the last possible epoch if it is lower.
        mode: `"ticket"` or `"prune"`. Defaults to `"ticket"`.
        anneal: Whether the temperature rises with every `"step"`, or with every `"epoch"` as
            in the official code. Defaults to `"step"`.
        retrain_epochs: Integer >= 0, epochs with settled gates. With `"ticket"` they restart the
            learning-rate schedule, with `"prune"` they continue it. With 0, the model of a
            `"ticket"` search ends with the ticket's initial weights. Defaults to `None`:
            `epochs_per_round` with `"ticket"`, 0 with `"prune"`.
        target_density: Float in (0, 1), the density to which the penalty leads, by the same
            factor in every round; see `tf_lottery.layers.GateControl`. A target above the density
            that results without a penalty needs gates with a positive `initial_value`. Defaults
            to `None`: the penalty of the `SoftGate`, without a target.
        exact_density: Whether the last masks keep exactly the share `target_density` of weights,
            those with the highest `s`, even if `s <= 0`. Not in the paper. Defaults to `False`.
        directory: Folder for tickets and progress; see `IterativeMagnitudePruning`. Defaults to
            `None`: nothing is saved.
        verbose: Whether to print a line per round. Defaults to `None`: the setting of `fit`.
        **kwargs: `sparse_model` and `optimizer`, if the sparse model is a part of the fitted
            model; see `tfl.callbacks.SparsityCallback`.

    Attributes:
        tickets: List with a `Ticket` per round: its masks with the weights of the rewind point,
            or with `"prune"` those at the end of the round.
        history: List with a dict per round, and one for the retraining: `round`, `density` at
            its end, and `logs`, the values of every epoch by name.
        level: Integer, the current round; `rounds` while retraining.
        failure: String, why the last search failed, or `None`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> sparse = tfl.sparsify(model, gate=tfl.SoftGate())
    >>> sparse.compile("adam", loss)
    >>> search = ContinuousSparsification(
    ...     epochs_per_round=4, target_density=0.05, exact_density=True
    ... )
    >>> history = sparse.fit(x, y, epochs=search.epochs, callbacks=[search], verbose=0)
    >>> search.tickets[-1].save("ticket.npz")
    >>> search.tickets[-1].density
    0.05
    """

    unit = "round"
    failure_advice = ", or make the gates with `tfl.SoftGate(rescale=False)`"
    setting_names = (
        "epochs_per_round",
        "rounds",
        "final_temperature",
        "rewind_to_epoch",
        "mode",
        "anneal",
        "retrain_epochs",
        "target_density",
        "exact_density",
    )

    def __init__(
        self,
        epochs_per_round: int,
        rounds: int = 3,
        *,
        final_temperature: float = 200.0,
        rewind_to_epoch: int | None = None,
        mode: str = "ticket",
        anneal: str = "step",
        retrain_epochs: int | None = None,
        target_density: float | None = None,
        exact_density: bool = False,
        directory: str | os.PathLike | None = None,
        verbose: bool | int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(directory, verbose, **kwargs)
        self.epochs_per_round = positive_integer("epochs_per_round", epochs_per_round)
        self.rounds = positive_integer("rounds", rounds)
        self.final_temperature = number_above("final_temperature", final_temperature, 1)
        self.mode = choice("mode", mode, MODES)
        self.anneal = choice("anneal", anneal, ANNEALS)
        if rewind_to_epoch is None:
            rewind_to_epoch = min(2, epochs_per_round - 1)
        self.rewind_to_epoch = natural_number("rewind_to_epoch", rewind_to_epoch)
        if retrain_epochs is None:
            retrain_epochs = epochs_per_round if mode == "ticket" else 0
        self.retrain_epochs = natural_number("retrain_epochs", retrain_epochs)
        self.target_density = target_density
        self.exact_density = exact_density
        self._open = 1.0
        self._check_arguments()

    @property
    def epochs(self) -> int:
        """Number of epochs that `fit` needs for all rounds and the retraining."""
        return self.rounds * self.epochs_per_round + self.retrain_epochs

    @property
    def last_level(self) -> int:
        """Integer, the last round of the search. The retraining counts as a round."""
        return self.rounds - 1 + (self.retrain_epochs > 0)

    def epochs_in_level(self) -> int:
        """Returns the number of epochs of the current round."""
        return self.epochs_per_round if self.level < self.rounds else self.retrain_epochs

    def set_model(self, model: keras.Model) -> None:
        """Sets the model, which must have gates."""
        super().set_model(model)
        if not isinstance(self.model.selection, Gates):
            raise ValueError(
                "Argument `model` must have gates; make it with `tfl.sparsify(model, "
                f"gate=tfl.SoftGate())`. Received: {self.model.name!r}"
            )

    def settings(self) -> dict:
        """Returns the settings that a resumed search must share, as a dict that fits into JSON."""
        return {**super().settings(), "gate": self.model.selection.gate.get_config()}

    def begin(self) -> None:
        """Starts a search, with gates at their initial values."""
        self._open = 1.0 if self.model.has_soft_gates else self.model.density
        self.model.selection.reopen()
        forget_gates(self.training)
        super().begin()
        if self.rewind_to_epoch == 0:
            self.take_rewind_point()
        self._start_round()

    def starting_density(self) -> float:
        """Returns the share of weights that are not pruned yet. Their `s` may be 0 or less."""
        return self._open

    def start_level(self) -> None:
        """Resets the gates for another round, or rewinds the weights for the retraining."""
        self._open = self.history[-1]["density"]
        if self.level < self.rounds:
            self._restart_learning_rate()
            reset_gates(self.model.selection, self.final_temperature)
            self._start_round()
            forget_gates(self.training)
        elif self.mode == "ticket":
            self._rewind()

    def end_level(self) -> None:
        """Stores the ticket of a round, and settles the gates after the last round."""
        if self.level >= self.rounds:
            return
        is_last = self.level == self.rounds - 1
        is_rewound = self.mode == "ticket"
        weights = self._rewind_point.weights if is_rewound else hard_weights(self.model)
        if is_last and self.exact_density:
            keep_exactly(self.model, self.target_density)
        undecided = self.history[-1]["logs"]["undecided"][-1]
        warn_of_doubts(self.model, undecided, self.level, self.target_density if is_last else None)
        self.add_ticket(weights, self._rewind_point.step if is_rewound else None)
        self.history[-1]["density"] = self.model.density
        if is_last:
            settle_gates(self.training)
            if self.mode == "ticket" and not self.retrain_epochs:
                self._rewind()

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts a search, or resumes the one in the directory."""
        super().on_train_begin(logs)
        self.model.selection.control.steers = self.target_density is not None
        self.training.make_train_function()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts the next round if the current one has ended."""
        super().on_epoch_begin(epoch, logs)
        if self.anneal == "epoch" and self.level < self.rounds:
            self.model.selection.control.move_to(self._epochs_done)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Counts the batch, and finds out in a round's first one how often it calls the gates."""
        is_first = self._epochs_done == 0 and self._count.last_batch == -1
        super().on_train_batch_end(batch, logs)
        is_annealed = self.anneal == "step" and self.level < self.rounds
        if is_first and is_annealed and self.failure is None:
            self.model.selection.control.share_steps(self._batches_done())

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Makes the gates hard for the evaluation."""
        self._harden(True)

    def on_test_end(self, logs: dict | None = None) -> None:
        """Makes the gates soft again."""
        self._harden(False)

    def find_failure(self) -> str | None:
        """Returns a text if all gates are closed when a round ends."""
        last_epoch = self._epochs_done + 1 == self.epochs_per_round
        last_round = self.rounds - 1 - self.exact_density
        takes_masks = last_epoch and self.level <= last_round
        return ALL_CLOSED if takes_masks and not self.model.density else None

    def record(self, logs: dict) -> None:
        """Adds the epoch to the history.

        Args:
            logs: Dict of the epoch's values. Those of the search are added to it.
        """
        if self.level < self.rounds:
            gates = self.model.selection
            temperature = float(ops.convert_to_numpy(gates.control.temperature))
            logs.update(
                temperature=temperature,
                undecided=gate_ops.undecided(gates.values, temperature),
                gate_penalty=gates.loss_of_gates,
            )
        super().record(logs)
        self.history[-1]["density"] = logs["density"]

    def on_train_end(self, logs: dict | None = None) -> None:
        """Warns if the search is not finished, or other callbacks undid its masks."""
        self.warn_if_undone(1.0 - self.history[-1]["density"])
        super().on_train_end(logs)
        if self.has_ended():
            self.model.call_after_fit(functools.partial(warn_of_soft_gates, self.model))

    def _harden(self, hard):
        # Settled gates must stay settled after an evaluation.
        if self.model.has_soft_gates:
            self.model.selection.control.harden(hard)

    def _start_round(self):
        """Sets the schedules of temperature and penalty."""
        control, steps = self.model.selection.control, self.params.get("steps")
        if steps is None and (self.anneal == "step" or self.target_density is not None):
            raise ValueError(
                "Arguments `anneal='step'` and `target_density` need the number of steps of an "
                "epoch; pass `steps_per_epoch` to `fit`, or use `anneal='epoch'` without a target. "
                f"Received: anneal={self.anneal!r}, target_density={self.target_density}"
            )
        by_step = self.anneal == "step"
        last = max(1, self.epochs_per_round * (steps if by_step else 1) - 1)
        temperature = 1.0 if self.model.selection.gate.stochastic else self.final_temperature
        control.anneal(last, temperature, stride=float(by_step))
        if self.target_density is not None:
            share = (self.level + 1) / self.rounds
            num_steps = self.epochs_per_round * steps
            control.steer(num_steps, self.target_density**share)

    def _restart_learning_rate(self):
        self.restore(self._start, ("step", "learning_rate"))

    def _rewind(self):
        """Restores the weights of the rewind point, and resets the optimizer."""
        self._restart_learning_rate()
        self.restore(self._start, ("optimizer",))
        self.restore(self._rewind_point, ("weights", "tweaks"))
        self.model.apply_masks()
        trained = self.training.trained_variables
        own = {id(variable) for variable in self.model.trainable_variables}
        clear_slots(self.optimizer, trained, [v for v in trained if id(v) in own])

    def _check_arguments(self):
        if self.epochs_per_round < 2 and self.anneal == "epoch":
            raise ValueError(
                "Argument `epochs_per_round` must be above 1 with `anneal='epoch'`. "
                f"Received: epochs_per_round={self.epochs_per_round}"
            )
        if self.rewind_to_epoch >= self.epochs_per_round:
            raise ValueError(
                "Argument `rewind_to_epoch` must be below `epochs_per_round`, "
                f"{self.epochs_per_round}. Received: rewind_to_epoch={self.rewind_to_epoch}"
            )
        if self.target_density is not None:
            self.target_density = fraction("target_density", self.target_density)
            if not self.target_density:
                raise ValueError("Argument `target_density` must be above 0. Received: 0")
        if self.exact_density and self.target_density is None:
            raise ValueError("Argument `exact_density` needs a `target_density`. Received: None")
