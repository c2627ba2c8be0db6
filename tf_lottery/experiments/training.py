"""One training of a sparse network by any of the methods, resumable."""

import dataclasses
import pathlib

from tf_lottery import callbacks
from tf_lottery._strip import strip
from tf_lottery.checks import choice, fraction, number_above
from tf_lottery.experiments import methods, networks
from tf_lottery.experiments.batches import check_augment, check_length
from tf_lottery.experiments.checkpoint import Checkpoint
from tf_lottery.experiments.compiling import compile_classifier
from tf_lottery.experiments.fitting import evaluate_classifier, fit_classifier
from tf_lottery.experiments.optimizer_settings import OptimizerSettings
from tf_lottery.experiments.run_folder import (
    check_success,
    failures,
    locked_run,
    read_results,
    remove_files,
    save_model,
    write_json,
)
from tf_lottery.experiments.training_cost import training_cost
from tf_lottery.retrain import SmoothedCrossentropy
from tf_lottery.ticket import Ticket

KIND = "train"
RESULTS = {
    "settings": dict,
    "density": (int, float),
    "epochs": int,
    "test_accuracy": (int, float),
    "test_loss": (int, float),
}
FILES = (
    "checkpoint.npz",
    "failures.json",
    "model.keras",
    "results.json",
    "search/search.npz",
    "search/ticket_*.npz",
    "settings.json",
    "ticket.npz",
)


@dataclasses.dataclass(frozen=True)
class TrainSettings(OptimizerSettings):
    """The hyperparameters of a training; those of the optimizer are in `OptimizerSettings`.

    Methods differ in their options. `methods.OPTIONS` lists them with the defaults, which
    replace `None` here.

    Args:
        method: A key of `methods.OPTIONS`. `"static"` trains with a fixed random mask;
            `"rigl"`, `"set"` and `"snfs"` start from a random mask and move connections;
            `"snip"`, `"grasp"` and `"synflow"` prune before training; `"gmp"` prunes
            gradually; `"imp"` trains, prunes and rewinds repeatedly; `"cs"` learns masks in
            a few rounds; `"dense"` prunes nothing.
        model: A key of `networks.MODELS`, or the path of a `.keras` file, whose weights are the
            initial ones. Defaults to `None`: a small one that fits the data.
        sparsity: Float in (0, 1), at the end of training.
        epochs: Integer; for `"imp"` those of a level, for `"cs"` those of a round.
        steps_per_epoch: Integer. Defaults to `None`: one pass through the data.
        batch_size: Integer.
        augment: Tuple of `"flip"` and `"shift"`, how training images are changed; see
            `batches.augmented`.
        label_smoothing: Float in [0, 1), as in Keras: the share of the label that is spread over
            all classes. Defaults to `0.0`.
        distribution: How the kernels share the sparsity: `"uniform"`, `"er"` or `"erk"`, the
            default without a pattern. With `"gmp"`, `"snip"`, `"grasp"` and `"synflow"` each
            kernel is then ranked by itself.
        scope: `"global"` or `"layer"`, what is ranked together.
        pattern: Name of a pattern; see `tfl.sparsify`.
        rescale: Boolean, for methods with random masks: whether the initial weights are rescaled
            to the variance that a dense network has; see `tfl.retrain.rescale_to_density`. With
            `None` they are unless the network has normalization layers: the deeper it is, the
            more of the signal vanishes otherwise. RigL's code has such initial weights as an
            option, and networks with normalization.
        drop_fraction: Float in [0, 1), see `callbacks.RigL`.
        frequency: Integer, steps between two changes of the masks.
        end_step: Integer, the step of the last change.
        levels: Integer, for `"imp"`. Every level prunes the same share of what is left.
        rewind: For `"imp"`; see `callbacks.IterativeMagnitudePruning`.
        rewind_to_step: Integer, for `"imp"` and `"cs"`, for the latter the end of an epoch. A
            comparison of the two needs the same one: by default `"imp"` rewinds to the initial
            weights and `"cs"` to those after two epochs, as in their papers.
        rounds: Integer, for `"cs"`; see `callbacks.ContinuousSparsification`.
        target_density: Float in (0, 1), for `"cs"`: the density to aim at. With `None` the
            density results from `initial_value`.
        exact_density: Boolean, for `"cs"`: whether that density is met exactly.
        initial_value: Float, for `"cs"`; see `tfl.SoftGate`.
        gate_learning_rate: Float, for `"cs"`: that of SGD with Nesterov momentum for the gates
            alone, with the schedule of the weights; the official code has 0.1. With `None` the
            optimizer of the weights trains the gates too.
        mode: `"ticket"` or `"prune"`, for `"cs"`.

    Raises:
        ValueError: If an argument is outside its range or the method does not use it.

    Example:

    >>> settings = TrainSettings("rigl", "lenet-5", sparsity=0.95, optimizer="sgd")
    >>> settings.option("distribution"), settings.learning_rate
    ('erk', 0.1)
    """

    method: str = "gmp"
    model: str | None = None
    sparsity: float | None = None
    epochs: int = 10
    steps_per_epoch: int | None = None
    batch_size: int = 60
    augment: tuple = ()
    label_smoothing: float = dataclasses.field(default=0.0, kw_only=True)
    distribution: str | None = None
    scope: str | None = None
    pattern: str | None = None
    rescale: bool | None = None
    drop_fraction: float | None = None
    frequency: int | None = None
    end_step: int | None = None
    levels: int | None = None
    rewind: str | None = None
    rewind_to_step: int | None = None
    rounds: int | None = None
    target_density: float | None = None
    exact_density: bool | None = None
    initial_value: float | None = None
    gate_learning_rate: float | None = None
    mode: str | None = None

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "augment", check_augment(self.augment))
        check_length(self.epochs, self.steps_per_epoch, self.batch_size)
        fraction("label_smoothing", self.label_smoothing)
        choice("method", self.method, methods.METHODS)
        if self.model is not None:
            networks.check_name(self.model)
        for name in methods.ALL_OPTIONS:
            if name not in methods.OPTIONS[self.method] and getattr(self, name) is not None:
                raise ValueError(
                    f"Argument `{name}` must be `None` for method {self.method!r}, which does "
                    f"not use it. Received: {name}={getattr(self, name)!r}"
                )
        if self.distribution is not None:
            choice("distribution", self.distribution, methods.DISTRIBUTIONS)
        if self.sparsity is not None and not 0 < self.sparsity < 1:
            raise ValueError(
                "Argument `sparsity` must be above 0 and below 1. "
                f"Received: sparsity={self.sparsity}"
            )

    def option(self, name):
        """Returns the value of an option of the method, its default if none was given.

        Args:
            name: String, a key of `methods.OPTIONS[method]`.

        Example:

        >>> TrainSettings("rigl").option("drop_fraction")
        0.3
        """
        value = getattr(self, name)
        if value is None:
            value = methods.OPTIONS[self.method][name]
        return value(self) if callable(value) else value

    def with_rate(self, rate):
        """Returns the settings with the fewest levels of `"imp"` that prune at most `rate` each.

        Args:
            rate: Float in (0, 1).

        Raises:
            ValueError: If `rate` is outside its range.
        """
        fraction("rate", number_above("rate", rate, 0))
        return dataclasses.replace(self, levels=methods.levels_for(self.option("sparsity"), rate))

    def loss_of(self, data):
        """Returns the loss to train with, `None` if it is the usual one.

        Args:
            data: `Data`.
        """
        if not self.label_smoothing:
            return None
        # Keras spreads it over all classes, `SmoothedCrossentropy` over the wrong ones.
        mass = self.label_smoothing * (data.num_classes - 1) / data.num_classes
        return SmoothedCrossentropy(mass, from_logits=True)

    @property
    def scope_of_ranks(self):
        """What is ranked together: each kernel by itself if a distribution is given."""
        return "layer" if self.option("distribution") else self.option("scope")

    @property
    def rate(self):
        """The share of the surviving weights that a level of `"imp"` prunes."""
        return 1.0 - (1.0 - self.option("sparsity")) ** (1.0 / self.option("levels"))

    @property
    def num_trainings(self):
        """How often the method trains the network: levels or rounds, and the ticket of gates."""
        if self.method == "imp":
            return self.option("levels") + 1
        if self.method == "cs":
            return self.option("rounds") + (self.option("mode") == "ticket")
        return 1

    def to_dict(self):
        """Returns the settings that the method uses, with its defaults, as a dict for JSON."""
        options = methods.OPTIONS[self.method]
        unused = set(methods.ALL_OPTIONS) - set(options)
        found = {n: value for n, value in super().to_dict().items() if n not in unused}
        return {n: self.option(n) if n in options else value for n, value in found.items()}


def run_training(data, settings, directory, seed=0, verbose="auto"):
    """Trains a network, makes it sparse and saves it.

    Call this again to resume a run that was killed from its last epoch; it ends with the
    same weights. A run whose loss or weights were not finite goes on from its last good epoch
    with another learning rate.

    Args:
        data: `Data`.
        settings: `TrainSettings`.
        directory: Folder, made if it does not exist, for `model.keras`, the stripped
            network; `ticket.npz`, its masks with the weights to start from; `results.json`.
        seed: Integer, decides initial weights, random masks and order of the data. Defaults
            to `0`.
        verbose: As in `fit`. Defaults to `"auto"`.

    Returns:
        Dict of `settings`, `density`, `epochs`, those of all its trainings, `test_accuracy`,
        `test_loss`, for text `test_bits_per_character`, `history`, and what `training_cost`
        returns: the `steps` and `training_flops` of all its trainings, and more.

    Raises:
        ValueError: If an argument is outside its range, the model does not fit the data, the
            training fails, or `directory` holds a run with other arguments.
        OSError: If `directory` cannot be written.

    Example:

    >>> from tf_lottery.experiments.data import load
    >>> settings = TrainSettings(sparsity=0.8, epochs=1)
    >>> run_training(load("digits"), settings, "runs/train", verbose=0)["density"]
    0.2
    """
    directory = pathlib.Path(directory)
    if settings.model is None:
        settings = dataclasses.replace(settings, model=networks.default_model(data))
    batches = data.batches(settings.batch_size, settings.steps_per_epoch, seed, settings.augment)
    steps = settings.epochs * len(batches)
    model = methods.starting_model(data, settings, seed, steps)
    loss = settings.loss_of(data)
    compile_classifier(model, settings.make_optimizer(steps), loss)
    if settings.method in methods.SEARCHES:
        progress = methods.ticket_search(settings, len(batches), directory / "search")
        updates, changes, epochs = [], [progress], progress.epochs
    else:
        progress = Checkpoint(directory / "checkpoint.npz")
        updates = methods.mask_updates(settings, steps, seed)
        changes = [progress, *updates, callbacks.SparsityLogger()]
        epochs = settings.epochs
    determining = all_settings(data.settings, settings, seed)
    with locked_run(directory, KIND, determining, FILES):
        if results := read_results(directory, RESULTS):
            return results
        methods.prune_before_training(model, settings, batches.for_fit())
        fit_classifier(model, data, batches, epochs, changes, verbose)
        check_success(directory, progress)
        if loss is not None:
            # Without label smoothing, so that the losses of all trainings can be compared.
            compile_classifier(model, settings.make_optimizer(steps))
        save_model(strip(model), directory / "model.keras")
        tickets, trained = getattr(progress, "tickets", []), _epochs_trained(settings, progress)
        (tickets or [Ticket.from_model(model)])[-1].save(directory / "ticket.npz")
        results = {
            "settings": determining,
            "density": model.density,
            "epochs": sum(trained),
            **evaluate_classifier(model, data),
            **training_cost(
                model, settings, steps, updates=updates, tickets=tickets, epochs=trained
            ),
            "history": progress.history,
            **failures(directory),
        }
        write_json(directory / "results.json", results)
    return results


def _epochs_trained(settings, progress):
    """Returns a list of the epochs of every training: of levels or rounds in a search."""
    if settings.method not in methods.SEARCHES:
        return [settings.epochs]
    return [len(level["logs"]["density"]) for level in progress.history]


def all_settings(inputs, settings, seed):
    """Returns the arguments that determine the result, as a dict that JSON can store.

    Args:
        inputs: `Data.settings`.
        settings: `TrainSettings` with a `model`.
        seed: Integer.
    """
    return {**inputs, "seed": seed, **settings.to_dict(), **networks.identity(settings.model)}


def remove_training(directory):
    """Deletes the files that `run_training` has written into a folder, and no others.

    Args:
        directory: The folder.
    """
    remove_files(directory, KIND, FILES)
