"""Continuous Sparsification: gates that learn which weights to keep."""

import os
import warnings

from keras import ops

from tf_lottery.callbacks.gate_health import find_failure, warn_of_doubts
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


class ContinuousSparsification(TicketSearch):
    """Learns which weights to keep by soft gates, in a few rounds of one `fit`.

    "Winning the Lottery with Continuous Sparsification" (Savarese et al., arXiv:1912.04427,
    algorithm 2). In a round the temperature of the gates rises exponentially from 1 to
    `final_temperature`, so that they become 0 or 1. Between rounds the weights are kept, the gates
    go back to `min(final_temperature * s, initial_value)`, which reopens the survivors and pushes
    the others far down, and learning-rate schedules of the optimizer start again. At the end
    the gates are settled: a weight is kept where `s > 0`. Then the weights are rewound once
    and trained with these masks (`"ticket"`), or kept (`"prune"`). In a second search what the
    first has pruned stays pruned.

    Validation during `fit`, and with it every `val_` value, is that of the hard gates `s > 0`: of
    the network that would be shipped, but for what `exact_density` changes. The logs of an epoch
    gain `round`, `density`, the share of gates that are above 0; `undecided`, the share of gates
    whose sigmoid is between 0.01 and 0.99; `temperature` and `gate_penalty`, the part of the loss
    that the gates add.

    Callbacks that keep or restore weights, such as `EarlyStopping` and `ModelCheckpoint`, have to
    stand behind the search in the list and to begin when it retrains. A `LearningRateScheduler`
    counts the epochs of `fit` and does not start again.

    With stochastic gates the temperature stays 1, and between rounds gates below their initial
    value are shut: Iterative Stochastic Sparsification.

    A round whose loss or gates are not finite, or that closes all gates, ends the search
    with a warning; the model is then the last good ticket, or what it was before.

    Args:
        epochs_per_round: Integer > 0, above 1 with `anneal="epoch"`.
        rounds: Integer > 0. Defaults to `3`.
        final_temperature: Float > 1. Defaults to `200.0`.
        rewind_to_epoch: Integer >= 0, below `epochs_per_round`: the weights and batch statistics
            to rewind to, those after so many epochs of the first round. Without effect with
            `mode="prune"`. Defaults to `2`, or to the last that is possible.
        mode: `"ticket"` or `"prune"`. Defaults to `"ticket"`.
        anneal: Whether the temperature rises with every `"step"`, or with every `"epoch"` as
            in the official code. Defaults to `"step"`.
        retrain_epochs: Integer >= 0, epochs with settled gates. They repeat the learning-rate
            schedule with `"ticket"` and go on with it with `"prune"`. Defaults to `None`:
            `epochs_per_round` with `"ticket"`, 0 with `"prune"`. With 0 a ticket is left with the
            weights it starts from.
        target_density: Float in (0, 1), what the density is led to by the penalty: every round by
            the same factor; see `tf_lottery.layers.GateControl`. A target above the density
            that comes by itself needs gates with a positive `initial_value`. Defaults to
            `None`: the penalty is that of the `SoftGate`, and the density is what comes of it.
        exact_density: Whether the last masks keep the highest `s`, as many as `target_density`
            says, wherever 0 lies; not in the paper. Defaults to `False`.
        directory: Folder that keeps tickets and progress; see `IterativeMagnitudePruning`.
            Defaults to `None`: nothing is kept.
        verbose: Whether to print a line per round. Defaults to `None`: as `fit` does.
        **kwargs: `sparse_model` and `optimizer`, where the sparse model is a part of the one that
            is fitted; see `tfl.callbacks.SparsityCallback`.

    Attributes:
        tickets: List of a `Ticket` per round: its masks with the weights of the rewind point,
            or with `"prune"` those of the round's end.
        history: List of a dict per round, and one of the retraining: `round`, `density` at its
            end, and `logs`, the values of every epoch by name.
        level: Integer, the current round; `rounds` while retraining.
        failure: String, why the search failed, or `None`.

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
        **kwargs,
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
        self.failure = None
        self._open = 1.0
        self._before = None
        self._check_arguments()

    @property
    def epochs(self):
        """Number of epochs `fit` needs for all rounds and the retraining."""
        return self.rounds * self.epochs_per_round + self.retrain_epochs

    @property
    def last_level(self):
        """Integer, the round that ends the search; the retraining counts as one."""
        return self.rounds - 1 + (self.retrain_epochs > 0)

    def epochs_in_level(self):
        """Returns the number of epochs of the current round."""
        return self.epochs_per_round if self.level < self.rounds else self.retrain_epochs

    def set_model(self, model):
        """Takes the model, which must have gates."""
        super().set_model(model)
        if not isinstance(self.model.selection, Gates):
            raise ValueError(
                "Argument `model` must have gates, made by `tfl.sparsify(model, "
                f"gate=tfl.SoftGate())`. Received: {self.model.name!r}"
            )

    def settings(self):
        """Returns what must not change when a search goes on, as a dict fit for JSON."""
        return {**super().settings(), "gate": self.model.selection.gate.get_config()}

    def begin(self):
        """Starts a search, with gates at their initial values."""
        self._open = 1.0 if self.model.has_soft_gates else self.model.density
        self._before = self.snapshot()
        self.model.selection.reopen()
        forget_gates(self.training)
        super().begin()
        self.failure = None
        if self.rewind_to_epoch == 0:
            self.take_rewind_point()
        self._start_round()

    def starting_density(self):
        """Returns the share of gates that are not shut, though none may be above 0 yet."""
        return self._open

    def start_level(self):
        """Resets the gates for another round, or goes back to retrain with settled ones."""
        self._open = self.history[-1]["density"]
        if self.level < self.rounds:
            self._restart_learning_rate()
            reset_gates(self.model.selection, self.final_temperature)
            self._start_round()
            forget_gates(self.training)
        elif self.mode == "ticket":
            self._rewind()

    def end_level(self):
        """Takes the ticket of a round, and settles the gates after the last one."""
        if self.level >= self.rounds:
            return
        is_last = self.level == self.rounds - 1
        weights = self._rewind_point.weights if self.mode == "ticket" else hard_weights(self.model)
        if is_last and self.exact_density:
            keep_exactly(self.model, self.target_density)
        undecided = self.history[-1]["logs"]["undecided"][-1]
        warn_of_doubts(self.model, undecided, self.level, self.target_density if is_last else None)
        self.add_ticket(weights)
        self.history[-1]["density"] = self.model.density
        if is_last:
            settle_gates(self.training)
            if self.mode == "ticket" and not self.retrain_epochs:
                self._rewind()

    def on_train_begin(self, logs=None):
        """Starts a search, or goes on with the one in the directory."""
        super().on_train_begin(logs)
        self.model.selection.control.steers = self.target_density is not None
        self.training.make_train_function()

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the next round if the current one has ended."""
        super().on_epoch_begin(epoch, logs)
        if self.anneal == "epoch" and self.level < self.rounds:
            self.model.selection.control.move_to(self._epochs_done)

    def on_test_begin(self, logs=None):
        """Lets the network be evaluated with hard gates."""
        self._harden(True)

    def on_test_end(self, logs=None):
        """Goes back to soft gates."""
        self._harden(False)

    def on_epoch_end(self, epoch, logs=None):
        """Records the epoch, or ends a search that has failed."""
        last_epoch = self._epochs_done + 1 == self.epochs_per_round
        last_round = self.rounds - 1 - self.exact_density
        takes_masks = last_epoch and self.level <= last_round
        self.failure = find_failure(self.model, (logs or {}).get("loss", 0.0), takes_masks)
        if self.failure is None:
            super().on_epoch_end(epoch, logs)
        else:
            self._give_up()

    def record(self, logs):
        """Adds the epoch to the history.

        Args:
            logs: Dict of the epoch's values, to which those of the search are added.
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

    def on_train_end(self, logs=None):
        """Warns if the search is not finished or its masks were taken back."""
        if self.failure is not None:
            return
        self.warn_if_undone(1.0 - self.history[-1]["density"])
        super().on_train_end(logs)
        if self.has_ended() and self.model.has_soft_gates:
            warnings.warn(
                "The gates are soft though the search has ended: a callback restored weights of an "
                "earlier time. Let it start when the search retrains.",
                stacklevel=2,
            )

    def _harden(self, hard):
        # An evaluation of the settled model leaves it settled.
        if self.model.has_soft_gates:
            self.model.selection.control.harden(hard)

    def _start_round(self):
        """Sets the course of temperature and penalty."""
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
        """Goes back to the weights of the rewind point, with a fresh optimizer."""
        self._restart_learning_rate()
        self.restore(self._start, ("optimizer",))
        self.restore(self._rewind_point, ("weights", "tweaks"))
        self.model.apply_masks()
        trained = self.training.trained_variables
        own = {id(variable) for variable in self.model.trainable_variables}
        clear_slots(self.optimizer, trained, [v for v in trained if id(v) in own])

    def _give_up(self):
        """Sets the model to the last good ticket, or to the start, and ends the search."""
        self.restore(self._before or self._start)
        if self.tickets:
            self.tickets[-1].apply(self.model)
        left = f"the ticket of round {self.tickets[-1].level}" if self.tickets else "as it was"
        warnings.warn(
            f"Continuous Sparsification failed in round {self.level}: {self.failure}. The model is "
            f"now {left}.",
            stacklevel=2,
        )
        self.fitted.stop_training = True

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
