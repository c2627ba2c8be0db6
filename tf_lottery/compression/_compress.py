"""`tfl.compress`: from a trained model to a file within a budget."""

import os
import pathlib
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import keras

from tf_lottery import extras
from tf_lottery.analysis._flops import flops
from tf_lottery.checks import natural_number, number_above, positive_integer
from tf_lottery.compression.examples import read_examples
from tf_lottery.compression.grid import DENSE, PRECISIONS, SPARSITIES, STRUCTURES, Grid, Network
from tf_lottery.compression.limits import Limits
from tf_lottery.compression.progress import shown_progress
from tf_lottery.compression.record import FOUND, Record
from tf_lottery.compression.report import Compression
from tf_lottery.compression.search import Search
from tf_lottery.compression.task import (
    NUM_SAMPLES,
    NUM_TYPICAL,
    Task,
    check_calibration,
    check_model,
    measure_dense,
    settings_of,
)
from tf_lottery.experiments.run_folder import (
    RESULTS,
    SETTINGS,
    locked_run,
    read_json,
    read_results,
    remove_files,
    write_json,
)

KIND = "compress"
FILES = ("front.png", FOUND, RESULTS, SETTINGS)


def compress(
    model: keras.Model,
    train: Any,
    validation: Any,
    *,
    budget: dict[str, float],
    max_drop: float = 0.01,
    finetune: int = 0,
    structures: Sequence[str] = STRUCTURES,
    sparsities: Sequence[float] = SPARSITIES,
    precisions: Sequence[str] = PRECISIONS,
    learning_rate: float | None = None,
    batch_size: int = 32,
    calibration: int = 1000,
    directory: str | os.PathLike | None = None,
    fresh: bool = False,
    runs: int = 50,
    seed: int = 0,
    verbose: int = 1,
) -> Compression:
    """Finds the TFLite file of a trained model that meets a budget at the least loss.

    It tries ways to prune the model with files of several precisions. A network is pruned in one
    step with unlabelled examples (`tfl.prune` with `scores="obs"`, then `tfl.repair`) and, with
    `finetune`, trained further where that is not accurate enough. Every file is run, compared with
    Keras and timed, as by `tfl.export_tflite`, and its own accuracy is measured on all of the
    validation data. Sparser networks than one that is hopeless are not tried, and no files whose
    weights alone exceed the budget.

    The model is left as it was. The result is the same for the same arguments, but for times. With
    a `directory`, a call that was interrupted goes on where it stopped: a data set must give the
    same examples in the same order every time. Ctrl-C ends it with what is known so far.

    Args:
        model: A built plain Keras model with one output, of classes or of numbers to predict. To
            train it further, it must be compiled with an optimizer and a loss.
        train: The training data, a tuple of arrays `(x, y)` or a data set of such batches, which
            is read into memory. Without `finetune`, inputs alone will do; with it, there must be
            no sample weights.
        validation: The same, of examples that the model was not trained with. Accuracies are
            measured on them: labels are class numbers or one-hot rows, or 0 and 1 for one output.
            For a model that is compiled with a loss of regression, such as `"mse"`, they are
            numbers, and accuracy stands for the fraction of their variance that the outputs
            explain, R squared.
        budget: Dict of one or more of `"bytes"`, the size of the `.tflite` file; `"flops"`, those
            of one example without products with zeros, as `tfl.flops` counts them; and
            `"milliseconds"`, of one example on one thread of this machine.
        max_drop: Float in [0, 1], how much accuracy a file may lose, 0.01 for a point. Defaults
            to `0.01`.
        finetune: Integer >= 0, the epochs of further training: weights are pruned gradually
            meanwhile, channels at once before, since in short trainings that was more accurate by
            up to two points (`benchmarks/channels_cifar10.py`). Defaults to `0`: no training, no
            labels.
        structures: Names of patterns as in `tfl.sparsify`. Defaults to single weights, blocks of
            4 inputs, and whole channels.
        sparsities: Floats in (0, 1), rising: the fractions of zeros to try, of all kernels
            together. For channels, the fractions of the parameters to remove, or of the FLOPs if
            the budget is not of bytes. Defaults to `(0.5, 0.7, 0.8, 0.9, 0.95)`.
        precisions: As `quantize` of `tfl.export_tflite`, and `"float32"`. Defaults to all but
            16-bit activations.
        learning_rate: Float > 0, at the start of further training; it falls to 0 along a cosine.
            Defaults to `None`: that with which the model's training started.
        batch_size: Integer > 0, for further training. Defaults to `32`.
        calibration: Integer > 0, how many of the training examples pruning and repair see.
            Defaults to `1000`.
        directory: Folder for the files, the networks and the state of the search. Defaults to
            `None`: a new temporary folder.
        fresh: Whether to delete the files of an earlier call in `directory` first, once all
            arguments are checked. Defaults to `False`.
        runs: Integer > 0, how often a file is run to time it. Defaults to `50`.
        seed: Integer >= 0, decides the calibration examples and the order of the training data.
            Defaults to `0`.
        verbose: Whether to show the progress. Defaults to `1`.

    Returns:
        A `Compression`.

    Raises:
        ValueError: If an argument is outside its range, the data do not fit the model, or the
            folder holds another run.
        OSError: If the folder cannot be written, before any file is made; later a warning says
            so.
        RuntimeError: If the backend is not TensorFlow.

    Example:

    >>> asked = {"budget": {"bytes": 4000}, "max_drop": 0.1}
    >>> grid = {"structures": (), "precisions": ["float32"]}
    >>> result = tfl.compress(model, (x, y), (x_val, y_val), **asked, **grid, verbose=0)
    >>> result.best.name
    'dense_float32.tflite'
    """
    _check_backend()
    finetune = natural_number("finetune", finetune)
    check_model(model, finetune)
    limits, grid = Limits.checked(budget), Grid.checked(structures, sparsities, precisions)
    max_drop = _checked_drop(max_drop)
    if learning_rate is not None:
        learning_rate = number_above("learning_rate", learning_rate, 0)
    calibration, seed = positive_integer("calibration", calibration), natural_number("seed", seed)
    is_trained = finetune > 0
    examples = read_examples("train", train, model, is_trained, refuses_weights=is_trained)
    check_calibration(examples.inputs)
    held_out, accuracy, dense_accuracy = measure_dense(model, validation)
    if is_trained:
        accuracy.check_training_labels(examples.y)
    _warn_of_flops(model, limits)
    chosen = examples.chosen(calibration, seed)
    task = Task(
        model=model,
        train=examples,
        validation=held_out,
        accuracy=accuracy,
        dense_accuracy=dense_accuracy,
        limits=limits,
        max_drop=max_drop,
        grid=grid,
        finetune=finetune,
        learning_rate=learning_rate,
        batch_size=positive_integer("batch_size", batch_size),
        calibration=chosen.pack(chosen.arrays),
        samples=examples.chosen(NUM_SAMPLES, seed),
        typical=examples.chosen(NUM_TYPICAL, seed),
        runs=positive_integer("runs", runs),
        seed=seed,
        folder=pathlib.Path(directory or tempfile.mkdtemp(prefix="tf_lottery_compress_")),
    )
    if fresh:
        remove_compression(task.folder)
    with locked_run(task.folder, KIND, settings_of(task), _patterns(grid.structures)):
        return _run(task, verbose)


def _checked_drop(max_drop):
    """Returns the accuracy that a file may lose, or raises a `ValueError`."""
    max_drop = number_above("max_drop", max_drop, 0, inclusive=True)
    if max_drop > 1:
        raise ValueError(
            "Argument `max_drop` must be a fraction in [0, 1], 0.02 for two points. "
            f"Received: max_drop={max_drop}"
        )
    return max_drop


def remove_compression(directory: str | os.PathLike) -> None:
    """Deletes the files that `tfl.compress` has written into a folder, and no others.

    Args:
        directory: The folder.
    """
    path = pathlib.Path(directory) / SETTINGS
    structures = read_json(path).get("structures", ()) if path.exists() else ()
    remove_files(directory, KIND, _patterns(structures))


def _patterns(structures):
    """Returns patterns of the files of a compression, which other files do not match."""
    names = [Network(structure).name.removesuffix("_0") for structure in structures]
    made = [f"{name}_[0-9]*.{suffix}" for name in names for suffix in ("keras", "tflite")]
    return (*made, *(f"{DENSE}_{precision}.tflite" for precision in PRECISIONS), *FILES)


def _warn_of_flops(model, limits):
    if "flops" in limits.values and (missing := flops(model).not_counted):
        path, reason = next(iter(missing.items()))
        warnings.warn(
            f"The budget of FLOPs leaves out operations with {len(missing)} weights, such as "
            f"{path!r} ({reason}), which `tfl.flops` does not count. A budget of milliseconds "
            "includes them.",
            stacklevel=3,
        )


def _check_backend():
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "`compress` needs Keras on TensorFlow, as TFLite's converter does. Save the model and "
            "run `KERAS_BACKEND=tensorflow tf-lottery compress FILE`. "
            f"Received: keras.backend.backend()={keras.backend.backend()!r}"
        )
    extras.require("export", "tensorflow", "ai_edge_litert", "ai_edge_quantizer", "flatbuffers")


def _run(task, verbose):
    record, stopped = Record(task.folder), ""
    rounds = 2 if task.finetune else 1
    networks = 1 + rounds * len(task.grid.structures) * len(task.grid.sparsities)
    steps = networks * (1 + len(task.grid.precisions))
    with shown_progress(steps, verbose) as progress:
        try:
            if not _has_finished(task.folder, record):
                Search(task, record, progress).run()
            write_json(task.folder / RESULTS, _result(task, record, "").to_dict())
        except (KeyboardInterrupt, OSError) as error:
            if not record.files:
                raise
            stopped = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
    result = _result(task, record, stopped)
    if stopped:
        warnings.warn(
            f"The compression ended early ({stopped}); with the same `directory`, "
            f"{str(task.folder)!r}, it goes on from there.",
            stacklevel=3,
        )
    return result


def _has_finished(folder, record):
    """Returns whether a search has ended before, and all its files are still there."""
    results = read_results(folder, {"files": list})
    return results is not None and len(results["files"]) == len(record.files)


def _result(task, record, stopped):
    return Compression(
        directory=str(task.folder),
        budget=task.limits.values,
        max_drop=task.max_drop,
        dense_accuracy=task.dense_accuracy,
        standard_error=task.accuracy.standard_error(task.dense_accuracy),
        files=list(record.files.values()),
        accuracies=record.accuracies,
        problems=record.problems,
        stopped=stopped,
    )
