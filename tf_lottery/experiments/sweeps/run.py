"""One run of a sweep: what it trains, and the function that trains it."""

import dataclasses
import functools
import os
import pathlib
import time
from typing import Any

from tf_lottery.experiments import exporting, model_file, networks, retraining, training
from tf_lottery.experiments.data import Reading, input_settings, load, load_own
from tf_lottery.experiments.data.functions import import_module
from tf_lottery.experiments.folder_lock import FolderInUse
from tf_lottery.experiments.own_network import is_file
from tf_lottery.experiments.run_folder import compare_settings, read_results
from tf_lottery.export.errors import ExportError
from tf_lottery.retrain.suitable_tweaks import is_long
from tf_lottery.ticket import Ticket

# Seconds after which a run that another process trains is looked at again.
_PAUSE = 1.0


@dataclasses.dataclass(frozen=True)
class Kind:
    """What can be swept.

    Args:
        settings: The class of the settings.
        needs: Tuple of the names of files that a run reads.
        results: Dict of names that the results must have to their types.
        written: Tuple of patterns of the files that a training writes.
    """

    settings: type
    needs: tuple
    results: dict
    written: tuple

    @property
    def files(self) -> tuple:
        """Patterns of the files that a run writes, with those of its export."""
        return (*self.written, *exporting.FILES)


KINDS = {
    training.KIND: Kind(training.TrainSettings, (), training.RESULTS, training.FILES),
    retraining.KIND: Kind(
        retraining.RetrainSettings, ("ticket", "teacher"), retraining.RESULTS, retraining.FILES
    ),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """A training of a sweep.

    Args:
        name: String, its folder.
        kind: A key of `KINDS`.
        settings: The settings of the training, for `run_training` or `run_retraining`.
        seed: Integer.
        given: Dict of the settings that the sweep gives, as they were typed, for tables.
        data: Dict of the keys of a sweep that name the data; see `Sweep`.
        sources: Dict of the names in `Kind.needs` to paths. Defaults to none.
        search: `Run` of the same sweep whose ticket is trained again. Defaults to `None`.
        export: String, the precision of the file to write after training, a name in
            `exporting.PRECISIONS`. Defaults to `None`: no file.

    Example:

    >>> from tf_lottery.experiments.training import TrainSettings
    >>> Run("dense", "train", TrainSettings("dense"), 0, {}, {"dataset": "digits"}).name
    'dense'
    """

    name: str
    kind: str
    settings: Any
    seed: int
    given: dict
    data: dict
    sources: dict = dataclasses.field(default_factory=dict)
    search: "Run | None" = None
    export: str | None = None

    @property
    def epochs(self) -> int:
        """The planned epochs of all levels or rounds, a measure of how long the run takes."""
        repeats = self.settings.num_trainings if self.kind == training.KIND else 1
        return repeats * self.settings.epochs

    def train(self, directory, verbose: int | str = 0) -> dict:
        """Trains the network, or goes on with a run that was interrupted, and exports it.

        Args:
            directory: The folder of the sweep.
            verbose: As in `fit`. Defaults to `0`.

        Returns:
            The results, as `run_training` and `run_retraining` return them, and `export_run`.

        Raises:
            ValueError: If the settings do not fit, the training fails, or another process works
                in the folder.
            OSError: If a file cannot be read or written.
            ExportError: If the network cannot be exported.
        """
        results = self._train(directory, verbose)
        return results if self.export is None else {**results, **self._export(directory)}

    def load_data(self):
        """Returns the `Data` of the run.

        Raises:
            ValueError: If the data cannot be read, resized or normalized.
            OSError: If the data set or a file is missing.
        """
        model, shape = self.settings.model, None
        if "import" in self.data:
            import_module(self.data["import"])
        if "data" in self.data and model is not None and is_file(model):
            shape = _input_shape(model, os.stat(model).st_mtime_ns)
        return _load(tuple(self.data.items()), shape)

    def _train(self, directory, verbose):
        if self.search is not None and self.search.trained(directory) is None:
            self.search._train(directory, verbose)
        data = self.load_data()
        folder = pathlib.Path(directory) / self.name
        if self.kind == training.KIND:
            return training.run_training(data, self.settings, folder, self.seed, verbose)
        sources = self._sources(directory)
        ticket, teacher = Ticket.load(sources["ticket"]), sources.get("teacher")
        teacher = None if teacher is None else _load_teacher(teacher)
        return retraining.run_retraining(
            data, self.settings, ticket, folder, teacher, self.seed, verbose
        )

    def _export(self, directory):
        folder = pathlib.Path(directory) / self.name
        try:
            return exporting.export_run(folder, self.load_data(), self.export)
        except ExportError as error:
            # The rest is advice on arguments that a sweep does not have.
            message = f"The file of `export: {self.export}` cannot be made. {error.problem}"
            raise ExportError(message, error.problem) from error

    def _sources(self, directory):
        """Returns the paths of the files that the run reads."""
        if self.search is None:
            return self.sources
        folder = pathlib.Path(directory) / self.search.name
        return {**self.sources, "ticket": str(folder / "ticket.npz")}

    def results(self, directory) -> dict | None:
        """Returns the results of a finished run, or `None` if something of it is missing.

        The steps and FLOPs of a ticket that was trained again include those of its search, but not
        those of the search's own training of the ticket.

        Args:
            directory: The folder of the sweep.

        Raises:
            ValueError: If the results are damaged, or those of other settings.
            OSError: If a file cannot be read.
        """
        trained, file = self.trained(directory), {}
        if trained is not None and self.export is not None:
            file = exporting.read_export(pathlib.Path(directory) / self.name, self.export)
        if trained is None or file is None:
            return None
        if self.search is not None:
            searched = self.search.trained(directory) or {}
            # Older runs do not know what their ticket alone has cost.
            ticket = searched.get("ticket_cost", {})
            for name in ("epochs", "steps", "training_flops"):
                parts = trained.get(name), ticket.get(name)
                trained[name] = None if None in parts else sum(parts)
        return {**trained, **file}

    def trained(self, directory) -> dict | None:
        """Returns the results of a finished training, or `None`; see `results`."""
        if self.search is not None and self.search.trained(directory) is None:
            return None
        folder = pathlib.Path(directory) / self.name
        results = read_results(folder, KINDS[self.kind].results)
        if results is not None:
            # The name of the folder has only the settings that differ among the runs of a sweep.
            compare_settings(folder, self.kind, self._determining(results, directory))
        return results

    def _determining(self, results, directory):
        """Returns the arguments that determine the result, as a finished run has stored them.

        Its `results` name the tweaks that were chosen in the training.
        """
        settings = self.settings
        if "data" in self.data:
            # Their content tells them from others.
            inputs = self.load_data().settings
        else:
            chosen = {k: v for k, v in self.data.items() if k in ("image_size", "normalize")}
            inputs = input_settings(self.data["dataset"], **chosen)
        if self.kind == training.KIND:
            model = self.network()
            settings = dataclasses.replace(settings, model=model)
            return training.all_settings(inputs, settings, self.seed)
        if settings.tweaks is None:
            settings = dataclasses.replace(settings, tweaks=self._chosen_tweaks(results))
        digests, sources = {}, self._sources(directory)
        for name, digest in (("ticket", _ticket_digest), ("teacher", _teacher_digest)):
            is_used = name == "ticket" or "distillation" in settings.tweaks
            if name in sources and is_used:
                path = sources[name]
                digests[name] = digest(path, os.stat(path).st_mtime_ns)
        return retraining.all_settings(inputs, settings, self.seed, **digests)

    def _chosen_tweaks(self, results):
        """Returns the tweaks that a finished run would choose with the teacher that is given now.

        The others depend on the network and the length of the training, which are the same.
        """
        tweaks = {name for name in results["settings"]["tweaks"] if name != "distillation"}
        if "teacher" in self.sources and is_long(results.get("steps", 0)):
            tweaks.add("distillation")
        return tuple(tweaks)

    def network(self) -> str:
        """Returns the name of the network, or the path of its file."""
        if self.settings.model is not None:
            return self.settings.model
        if "data" in self.data:
            return networks.default_model(self.load_data())
        return networks.DEFAULT_MODELS[self.data["dataset"]]


# Most runs of a process have the same data set.
@functools.lru_cache(maxsize=1)
def _load(options, shape):
    options = dict(options)
    options.pop("import", None)
    if "dataset" in options:
        return load(options.pop("dataset"), **options)
    names = [field.name for field in dataclasses.fields(Reading)]
    reading = Reading(**{key: value for key, value in options.items() if key in names})
    return load_own(
        options["data"],
        validation=options.get("validation_data"),
        test=options.get("test_data"),
        reading=reading,
        input_shape=shape,
        image_size=options.get("image_size"),
        normalize=options.get("normalize", False),
    )


@functools.lru_cache(maxsize=8)
def _input_shape(path, modified):
    return model_file.input_shape(model_file.load_model(path))


def _load_teacher(path):
    import keras

    return keras.saving.load_model(path, compile=False)


# Many runs have the same ticket and teacher. `modified` tells a file from one that replaced it.
@functools.lru_cache(maxsize=64)
def _ticket_digest(path, modified):
    return retraining.ticket_digest(Ticket.load(path))


@functools.lru_cache(maxsize=64)
def _teacher_digest(path, modified):
    return retraining.teacher_digest(_load_teacher(path))


def attempt(run: Run, directory, verbose: int | str = 0) -> tuple[str, str]:
    """Trains a run, and says how it went instead of raising errors.

    Args:
        run: A `Run`.
        directory: The folder of the sweep.
        verbose: As in `fit`. Defaults to `0`.

    Returns:
        Tuple of how the run ended and of a message: `"finished"`; `"in use"` if another process
        trains it; `"refused"` after an error that the next attempt would meet again; or
        `"failed"`.
    """
    try:
        run.train(directory, verbose)
    except FolderInUse as error:
        time.sleep(_PAUSE)
        return "in use", str(error)
    except (ValueError, ImportError, ExportError) as error:
        return "refused", str(error)
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    return "finished", ""
