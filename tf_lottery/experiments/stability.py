"""The instability of networks: two trainings from the same weights, resumable."""

import dataclasses
import pathlib

from tf_lottery.analysis._stability import stability
from tf_lottery.analysis.connectivity import Connectivity
from tf_lottery.callbacks import SparsityCallback
from tf_lottery.checks import choice, natural_number, positive_integer
from tf_lottery.experiments import networks
from tf_lottery.experiments.batches import check_augment, check_length
from tf_lottery.experiments.checkpoint import Checkpoint
from tf_lottery.experiments.compiling import compile_classifier
from tf_lottery.experiments.fitting import fit_classifier
from tf_lottery.experiments.optimizer_settings import OptimizerSettings
from tf_lottery.experiments.run_folder import (
    check_success,
    digest,
    failures,
    locked_run,
    read_results,
    remove_files,
    write_json,
)
from tf_lottery.pruning import sparsify
from tf_lottery.snapshot import Snapshot

STARTS = ("shared", "independent")
KIND = "stability"
RESULTS = {"settings": dict, "density": (int, float), "errors": list, "losses": list}
FILES = ("copy_*.npz", "failures.json", "start_*.npz", "results.json", "settings.json")
# Training batches at every point for the statistics of batch normalization.
_STATISTICS_STEPS = 50


@dataclasses.dataclass(frozen=True)
class StabilitySettings(OptimizerSettings):
    """The hyperparameters of an instability analysis.

    Those of the optimizer are in `OptimizerSettings`. Its schedule ends with the training of the
    copies, and includes the steps before these start.

    Args:
        model: A key of `networks.MODELS`, or the path of a `.keras` file, for `start="shared"`
            alone. Defaults to `None`: a small one that fits the data.
        epochs: Integer, of each of the two trainings.
        steps_per_epoch: Integer. Defaults to `None`: one pass through the data.
        batch_size: Integer.
        augment: Tuple; see `TrainSettings`.
        start: `"shared"`, both copies start from the same weights; `"independent"`, the
            control, each from initial weights of its own, between which there is a barrier.
        rewind_to_step: Integer >= 0. A network without a ticket is trained for this many
            steps before it is copied. Must be 0 with a ticket, which has its own step.
        points: Integer >= 2, how many points to evaluate between the copies.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> settings = StabilitySettings("lenet-5", rewind_to_step=100)
    >>> settings.start, settings.points
    ('shared', 30)
    """

    model: str | None = None
    epochs: int = 10
    steps_per_epoch: int | None = None
    batch_size: int = 60
    augment: tuple = ()
    start: str = "shared"
    rewind_to_step: int = 0
    points: int = 30

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "augment", check_augment(self.augment))
        check_length(self.epochs, self.steps_per_epoch, self.batch_size)
        choice("start", self.start, STARTS)
        if self.model is not None:
            networks.check_name(self.model)
            if self.start == "independent":
                networks.check_new_weights(self.model, "start", self.start)
        natural_number("rewind_to_step", self.rewind_to_step)
        if positive_integer("points", self.points) < 2:
            raise ValueError(
                f"Argument `points` must be an integer >= 2. Received: points={self.points}"
            )


def run_stability(data, settings, directory, seed=0, ticket=None, verbose="auto"):
    """Trains two copies of a network with the data in different orders and compares them.

    The experiment of "Linear Mode Connectivity and the Lottery Ticket Hypothesis"
    (arXiv:1912.05671); see `tfl.stability`. Losses and errors are those of the test examples.
    Call this again to resume a run that was killed from its last epoch, with the same
    result.

    Args:
        data: `Data`.
        settings: `StabilitySettings`.
        directory: Folder for `results.json` and the trained copies, made if it does not exist.
        seed: Integer, decides initial weights and both orders of the data. Defaults to `0`.
        ticket: A `Ticket`; with `start="independent"` only its masks are used.
            Defaults to `None`: the dense network.
        verbose: As in `fit`. Defaults to `"auto"`.

    Returns:
        Dict of `settings`, `density` and what `Connectivity.to_dict` returns.

    Raises:
        ValueError: If an argument is outside its range, the ticket does not fit the model or
            the model the data, or `directory` holds a run with other arguments.
        OSError: If `directory` cannot be written.

    Example:

    >>> from tf_lottery.experiments.data import load
    >>> settings = StabilitySettings(epochs=1, points=5)
    >>> results = run_stability(load("digits"), settings, "runs/stability", verbose=0)
    >>> read_connectivity(results).is_stable
    True
    """
    directory = pathlib.Path(directory)
    if settings.model is None:
        settings = dataclasses.replace(settings, model=networks.default_model(data))
    copies = _copies(data, settings, seed)
    model = sparsify(networks.build(settings.model, data, 2 * seed))
    first = settings.rewind_to_step if ticket is None else ticket.provenance.get("step", 0)
    steps = first + settings.epochs * len(next(iter(copies.values())))
    compile_classifier(model, settings.make_optimizer(steps))
    _check_ticket(model, ticket, settings)
    ticket_digest = ticket and digest({"masks": ticket.masks, "weights": ticket.weights})
    arguments = {**data.settings, "seed": seed, "ticket": ticket_digest}
    all_settings = {**arguments, **settings.to_dict(), **networks.identity(settings.model)}
    with locked_run(directory, KIND, all_settings, FILES):
        if results := read_results(directory, RESULTS):
            return results
        start = ticket
        if ticket is None or settings.start == "independent":
            start = _starts(model, data, settings, directory, seed, ticket)

        def train(model, order):
            checkpoint = Checkpoint(directory / f"copy_{list(copies).index(order)}.npz")
            batches = copies[order]
            fit_classifier(model, data, batches, settings.epochs, [checkpoint], verbose)
            check_success(directory, checkpoint)

        found = stability(
            model,
            train,
            data.test,
            start=start,
            seeds=tuple(copies),
            points=settings.points,
            batches=data.batches(settings.batch_size, _STATISTICS_STEPS, 3 * seed),
        )
        density = 1.0 if ticket is None else ticket.density
        results = {"settings": all_settings, "density": density, **found.to_dict()}
        results.update(failures(directory))
        write_json(directory / "results.json", results)
    return results


def read_connectivity(results):
    """Returns the `Connectivity` in the results of `run_stability`.

    Args:
        results: Dict.

    Example:

    >>> results = {"alphas": [0.0, 0.5, 1.0], "losses": [0.1, 0.4, 0.3], "errors": None}
    >>> round(read_connectivity(results).barrier_loss, 2)
    0.2
    """
    names = [field.name for field in dataclasses.fields(Connectivity)]
    return Connectivity(**{name: results[name] for name in names})


def remove_stability(directory):
    """Deletes the files that `run_stability` has written into a folder, and no others.

    Args:
        directory: The folder.
    """
    remove_files(directory, KIND, FILES)


def _copies(data, settings, seed):
    """Returns the batches of both copies by their seeds."""
    return {
        order: data.batches(settings.batch_size, settings.steps_per_epoch, order, settings.augment)
        for order in (3 * seed + 1, 3 * seed + 2)
    }


def _starts(model, data, settings, directory, seed, ticket):
    """Returns a `Snapshot` for each copy, twice the same if both start from it."""
    count = 2 if settings.start == "independent" else 1
    fresh, starts = Snapshot(model), []
    for i in range(count):
        path = directory / f"start_{i}.npz"
        fresh.restore(model)
        initial = networks.build(settings.model, data, 2 * seed + i)
        model.model.set_weights(initial.get_weights())
        if ticket is not None:
            ticket.apply(model, weights=False)
        if path.exists():
            # After a failure, copies are trained with another learning rate.
            saved = Snapshot.load(path, model)
            starts.append(saved.with_learning_rates(fresh.learning_rates))
            continue
        if settings.rewind_to_step:
            steps, watch = settings.rewind_to_step, SparsityCallback()
            batches = data.batches(settings.batch_size, steps, 3 * seed, settings.augment)
            model.fit(batches, shuffle=False, callbacks=[watch], verbose=0)
            check_success(directory, watch)
        starts.append(Snapshot(model))
        if settings.rewind_to_step:
            starts[-1].save(path)
    return [*starts, *starts][:2]


def _check_ticket(model, ticket, settings):
    """Raises a `ValueError` if a ticket does not fit the model, and leaves the model as it is."""
    if ticket is None:
        return
    if settings.rewind_to_step:
        raise ValueError(
            "Argument `rewind_to_step` must be 0 with a ticket, which has the weights of its own "
            f"step. Received: rewind_to_step={settings.rewind_to_step}"
        )
    before = Snapshot(model)
    unmatched = ticket.apply(model).unmatched
    before.restore(model)
    if unmatched:
        raise ValueError(
            f"Argument `ticket` must be one of the model {settings.model!r}. "
            f"Received: a ticket with {unmatched}"
        )
