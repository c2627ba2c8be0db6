"""Retraining of a ticket, with tweaks or as a control, resumable."""

import dataclasses
import functools
import pathlib

from tf_lottery import controls
from tf_lottery._strip import strip
from tf_lottery.analysis._flops import active_ghosts
from tf_lottery.checks import choice
from tf_lottery.experiments import networks
from tf_lottery.experiments.batches import check_augment, check_length
from tf_lottery.experiments.checkpoint import Checkpoint
from tf_lottery.experiments.compiling import compile_classifier
from tf_lottery.experiments.fitting import evaluate_classifier, fit_classifier
from tf_lottery.experiments.optimizer_settings import OptimizerSettings
from tf_lottery.experiments.recipes import prepare, tweaks_for
from tf_lottery.experiments.run_folder import (
    check_success,
    compare_settings,
    digest,
    failures,
    locked_run,
    read_results,
    remove_files,
    save_model,
    write_json,
)
from tf_lottery.experiments.training import RESULTS
from tf_lottery.experiments.training_cost import training_cost
from tf_lottery.pruning import sparsify
from tf_lottery.retrain import TWEAKS

KIND = "retrain"
FILES = (
    "checkpoint.npz",
    "failures.json",
    "model.keras",
    "results.json",
    "settings.json",
    "ticket.npz",
)

# What can be retrained in place of the ticket: functions of the ticket, of a function that builds
# a network with a given seed, and of a seed.
CONTROLS = {
    "random_reinitialization": lambda ticket, build, seed: controls.random_reinitialization(
        ticket, build(seed)
    ),
    "sign_kept_reinitialization": lambda ticket, build, seed: controls.random_reinitialization(
        ticket, build(seed), keep_signs=True
    ),
    "shuffled_masks": lambda ticket, build, seed: controls.shuffle_masks(ticket, seed),
    "random_masks": lambda ticket, build, seed: controls.random_masks(ticket, seed, "erk"),
    "constant_weights": lambda ticket, build, seed: controls.constant_weights(ticket),
}
# Added to the seed of new weights, since tickets start from weights of small seeds.
_NEW_WEIGHTS = 1000


@dataclasses.dataclass(frozen=True)
class RetrainSettings(OptimizerSettings):
    """The hyperparameters of a retraining; those of the optimizer are in `OptimizerSettings`.

    Args:
        model: A key of `networks.MODELS`, or the path of a `.keras` file: the ticket's network.
        tweaks: Tuple of names from `tfl.retrain.TWEAKS`, in any order, or `None` for all that
            the network, the length of the training and the arguments of `run_retraining` allow;
            see `tfl.retrain.recipe`. Defaults to `()`: plain
            retraining.
        control: A key of `CONTROLS`, what to train in place of the ticket. Defaults to `None`.
        epochs: Integer.
        steps_per_epoch: Integer. Defaults to `None`: one pass through the data.
        batch_size: Integer.
        augment: Tuple; see `TrainSettings`.
        schedule: String; see `OptimizerSettings`. Defaults to `"cosine"`.
        annealed: Float in (0, 1]; see `tfl.retrain.recipe`.
        activation: String; see `tfl.retrain.soft_activations`.
        alpha: Float in [0, 1]; see `tfl.retrain.distill`.
        temperature: Float > 0; see `tfl.retrain.distill`.
        keep_ghosts: Boolean; see `tfl.retrain.recipe`. The network that is saved is then a
            `SparseModel`, since no plain layer computes ghost skips.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> RetrainSettings("lenet-5", ("label_smoothing", "soft_activations")).tweaks
    ('soft_activations', 'label_smoothing')
    """

    model: str
    tweaks: tuple | None = ()
    control: str | None = None
    epochs: int = 10
    steps_per_epoch: int | None = None
    batch_size: int = 60
    augment: tuple = ()
    schedule: str = dataclasses.field(default="cosine", kw_only=True)
    annealed: float = 0.5
    activation: str = "swish"
    alpha: float = 0.474
    temperature: float = 5.0
    keep_ghosts: bool = False

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "augment", check_augment(self.augment))
        check_length(self.epochs, self.steps_per_epoch, self.batch_size)
        networks.check_name(self.model)
        if self.tweaks is not None:
            for name in self.tweaks:
                choice("tweaks", name, TWEAKS)
            ordered = tuple(name for name in TWEAKS if name in self.tweaks)
            object.__setattr__(self, "tweaks", ordered)
        if self.control is not None:
            choice("control", self.control, tuple(CONTROLS))
            if self.control.endswith("reinitialization"):
                networks.check_new_weights(self.model, "control", self.control)


def run_retraining(
    data, settings, ticket, directory, teacher=None, seed=0, verbose="auto", on_recipe=None
):
    """Trains a ticket again, removes the tweaks of the training and saves the network.

    The learning rate follows its schedule from the beginning, whatever step the ticket was
    rewound to. Call this again to resume a run that was killed from its last epoch; it ends
    with the same weights.

    Args:
        data: `Data`.
        settings: `RetrainSettings`.
        ticket: `Ticket` of the network `settings.model`.
        directory: Folder, made if it does not exist, for `model.keras`, the stripped network;
            `ticket.npz`, the ticket or control that was trained; `results.json`.
        teacher: A built `keras.Model`, for distillation only. Defaults to `None`.
        seed: Integer, decides the order of the data and what is random in a control. Defaults
            to `0`.
        verbose: As in `fit`. Defaults to `"auto"`.
        on_recipe: Function that is called with the `Recipe` before training. Defaults to
            `None`.

    Returns:
        Dict of `settings`, with the tweaks that were used; `density`, of the kernels that can be
        pruned; `parameters`, all that are not zero, ghost skips included; `epochs`,
        `test_accuracy`, `test_loss`, the cross-entropy without label smoothing, for text
        `test_bits_per_character`, `history`, whose losses are those of the recipe, and `steps`
        and `training_flops`, without those of the search; see `training_cost`.

    Raises:
        ValueError: If an argument is outside its range, the ticket is one of another network,
            a tweak lacks what it needs, training fails, or `directory` holds a run with other
            arguments.
        OSError: If `directory` cannot be written.

    Example:

    >>> from tf_lottery.experiments import data, models
    >>> sparse = tfl.sparsify(models.lenet_300_100((8, 8, 1)), sparsity=0.9)
    >>> ticket = tfl.Ticket.from_model(sparse)
    >>> settings = RetrainSettings("lenet-300-100", ("soft_activations",), epochs=1)
    >>> digits = data.load("digits")
    >>> run_retraining(digits, settings, ticket, "runs/retrain", verbose=0)["density"]
    0.1
    """
    directory = pathlib.Path(directory)
    model = _apply(ticket, networks.build(settings.model, data, seed))
    chosen = _with_control(ticket, settings.control, settings.model, data, seed)
    chosen.apply(model)
    batches = data.batches(settings.batch_size, settings.steps_per_epoch, seed, settings.augment)
    if settings.tweaks is None:
        tweaks = tweaks_for(model, settings.epochs * len(batches), batches, teacher)
        settings = dataclasses.replace(settings, tweaks=tweaks)
    taught = None if teacher is None else teacher_digest(teacher)
    determining = all_settings(data.settings, settings, seed, ticket_digest(ticket), taught)
    if (directory / "settings.json").exists():
        # Checked early, since the initialization may take minutes.
        compare_settings(directory, KIND, determining)
        if results := read_results(directory, RESULTS):
            return results
    checkpoint = Checkpoint(directory / "checkpoint.npz")
    prepared = prepare(model, settings, batches, teacher, resumed=checkpoint.path.exists())
    with locked_run(directory, KIND, determining, FILES):
        # Another process may have finished it meanwhile.
        if results := read_results(directory, RESULTS):
            return results
        if on_recipe is not None:
            on_recipe(prepared)
        _compile(model, prepared.loss, settings, prepared.steps)
        # With the branches of ghost skips, as if none of them faded.
        cost = training_cost(model, settings, prepared.steps)
        callbacks = [checkpoint, *prepared.callbacks]
        fit_classifier(model, data, batches, settings.epochs, callbacks, verbose)
        check_success(directory, checkpoint)
        _save_without_tweaks(model, prepared, settings, directory / "model.keras")
        chosen.save(directory / "ticket.npz")
        results = {
            "settings": determining,
            "density": model.density,
            "parameters": count_parameters(model),
            "epochs": settings.epochs,
            **evaluate_classifier(model, data),
            **cost,
            "history": checkpoint.history,
            **failures(directory),
        }
        write_json(directory / "results.json", results)
    return results


def count_parameters(model):
    """Returns how many weights of a sparse model are not pruned, those of ghost skips included.

    Args:
        model: A `SparseModel`.
    """
    pruned = sum(mask.size - int(mask.sum()) for mask in model.get_masks().values())
    branches = sum(branch.count_params() for _, branch in active_ghosts(model))
    return model.model.count_params() + branches - pruned


def remove_retraining(directory):
    """Deletes the files that `run_retraining` has written into a folder, and no others.

    Args:
        directory: The folder.
    """
    remove_files(directory, KIND, FILES)


def _with_control(ticket, control, model, data, seed):
    if control is None:
        return ticket
    build = functools.partial(networks.build, model, data)
    return CONTROLS[control](ticket, build, _NEW_WEIGHTS + seed)


def _apply(ticket, plain):
    model = sparsify(plain)
    expected = f"Argument `ticket` must be one of the network {plain.name!r}. Received: a ticket"
    try:
        match = ticket.apply(model)
    except ValueError as error:
        raise ValueError(f"{expected} of {sorted(ticket.masks)}") from error
    if match.unmatched:
        raise ValueError(f"{expected} that does not fit in {match.unmatched}")
    return model


def _save_without_tweaks(model, recipe, settings, path):
    """Saves the plain network, or with its ghost skips the sparse one, ready to be evaluated."""
    recipe.remove()
    # Compiled without label smoothing, so that the losses of all trainings can be compared.
    _compile(model, None, settings, recipe.steps)
    has_ghosts = any(tweak.name == "ghost_skips" for tweak in model.tweaks)
    save_model(model if has_ghosts else strip(model), path)


def all_settings(inputs, settings, seed, ticket, teacher=None):
    """Returns the arguments that determine the result, as a dict that JSON can store.

    Args:
        inputs: `Data.settings`.
        settings: `RetrainSettings` with `tweaks`.
        seed: Integer.
        ticket: String, its `ticket_digest`.
        teacher: String, its `teacher_digest`. Defaults to `None`: no teacher.
    """
    is_taught = teacher is not None and "distillation" in settings.tweaks
    return {
        **inputs,
        "seed": seed,
        "ticket": ticket,
        **({"teacher": teacher} if is_taught else {}),
        **settings.to_dict(),
        **networks.identity(settings.model),
    }


def ticket_digest(ticket):
    """Returns a short hash of a `Ticket`."""
    return digest({"masks": ticket.masks, "weights": ticket.weights})


def teacher_digest(teacher):
    """Returns a short hash of the weights of a `keras.Model`."""
    return digest({"weights": dict(enumerate(teacher.get_weights()))})


def _compile(model, loss, settings, steps):
    compile_classifier(model, settings.make_optimizer(steps), loss)
