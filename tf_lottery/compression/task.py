"""What a compression works on: the model, its data, and what is asked."""

import dataclasses
import json
import pathlib
import re
from typing import Any

import keras
import numpy as np
from keras.optimizers import schedules

from tf_lottery._keras import all_layers
from tf_lottery.calibration.inputs import input_batches
from tf_lottery.compression.examples import Examples, read_examples
from tf_lottery.compression.grid import Grid
from tf_lottery.compression.limits import Limits, least_accuracy
from tf_lottery.compression.measures import Accuracy, ExplainedVariance, make_measure
from tf_lottery.data_sets import to_array
from tf_lottery.experiments.run_folder import digest
from tf_lottery.export.inputs import Inputs
from tf_lottery.model import SparseModel

NUM_SAMPLES, NUM_TYPICAL = 16, 256


@dataclasses.dataclass(frozen=True)
class Task:
    """The checked arguments of `tfl.compress`, and what they imply.

    Args:
        model: The plain trained model.
        train: `Examples`, with labels if there is fine-tuning.
        validation: `Examples` with labels.
        accuracy: `Accuracy` on the validation data, or `ExplainedVariance`.
        dense_accuracy: Float, that of the model.
        limits: `Limits`.
        max_drop: Float.
        grid: `Grid`.
        finetune: Integer, epochs.
        learning_rate: Float, or `None` for that of the compiled optimizer.
        batch_size: Integer.
        calibration: Inputs, nested arrays, for pruning in one step.
        samples: `Inputs` on which files are compared with Keras.
        typical: `Inputs` that show integer arithmetic the ranges of activations.
        runs: Integer, how often a file is run to time it.
        seed: Integer.
        folder: `pathlib.Path` for the files.
    """

    model: keras.Model
    train: Examples
    validation: Examples
    accuracy: Accuracy | ExplainedVariance
    dense_accuracy: float
    limits: Limits
    max_drop: float
    grid: Grid
    finetune: int
    learning_rate: float | None
    batch_size: int
    calibration: Any
    samples: Inputs
    typical: Inputs
    runs: int
    seed: int
    folder: pathlib.Path

    @property
    def least_accuracy(self):
        """The accuracy that a file must have."""
        return least_accuracy(self.dense_accuracy, self.max_drop)

    def is_hopeless(self, accuracy):
        """Returns whether an accuracy is below what is asked by more than chance explains."""
        return accuracy + self.accuracy.standard_error(accuracy) < self.least_accuracy

    @property
    def channel_budget(self):
        """What channels are removed for: `"parameters"` or `"flops"`."""
        return "parameters" if "bytes" in self.limits.values else "flops"

    @property
    def goal(self):
        """What storage of zeros is better for: `optimize_for` of `tfl.export_tflite`."""
        return "disk" if "bytes" in self.limits.values else "latency"

    def new_optimizer(self, steps):
        """Returns an optimizer like the model's, whose learning rate falls to 0 along a cosine.

        Args:
            steps: Integer, those of the training.
        """
        # Keras scales the loss anew where the model's precision needs it.
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        config, rate = optimizer.get_config(), self.learning_rate
        if rate is None:
            rate = config["learning_rate"]
            # A schedule may have ended.
            rate = schedules.deserialize(rate)(0) if isinstance(rate, dict) else rate
        rate = float(keras.ops.convert_to_numpy(rate))
        return type(optimizer).from_config(
            {**config, "learning_rate": schedules.CosineDecay(rate, steps)}
        )


def check_model(model, finetune):
    """Raises a `ValueError` if a model cannot be compressed.

    Args:
        model: The object to check.
        finetune: Integer, the epochs of further training, which needs a loss.
    """
    if isinstance(model, SparseModel) or not isinstance(model, keras.Model) or not model.built:
        raise ValueError(
            "Argument `model` must be a built plain Keras model; of a sparse one pass "
            f"`tfl.strip(model)`. Received: {model!r}"
        )
    if (count := len(keras.tree.flatten(getattr(model, "outputs", None) or [None]))) > 1:
        raise _wrong_outputs(model, count)
    if finetune and None in (getattr(model, "optimizer", None), getattr(model, "loss", None)):
        raise ValueError(
            "Argument `model` must be compiled with an optimizer and a loss to train it further; "
            f"`finetune=0` needs none. Received: model={model.name!r} without a loss, "
            f"finetune={finetune}"
        )


def _wrong_outputs(model, count):
    return ValueError(
        "Argument `model` must have one output, by whose accuracy files are compared. "
        f"Received: model={model.name!r} with {count} outputs"
    )


def check_calibration(inputs):
    """Raises a `ValueError` if all examples are the same.

    Args:
        inputs: `Inputs`.
    """
    if all((array == array[:1]).all() for array in inputs.arrays):
        raise ValueError(
            "Argument `train` must have examples that differ, which pruning and quantization are "
            f"calibrated with. Received: {len(inputs.arrays[0])} equal examples"
        )


def measure_dense(model, validation):
    """Reads the validation data and measures the model.

    Args:
        model: The plain model.
        validation: The user's argument.

    Returns:
        The `Examples`, the result of `make_measure`, and its value for the model.

    Raises:
        ValueError: If the data do not fit the model, or its outputs are not finite.
    """
    examples = read_examples("validation", validation, model)
    outputs = predict(model, examples)
    accuracy = make_measure(model, examples.y, outputs)
    return examples, accuracy, accuracy(outputs)


def predict(model, examples):
    """Returns the outputs of a model, one array.

    Args:
        model: A plain model.
        examples: `Examples`.

    Raises:
        ValueError: If the model has several outputs, or they are not finite.
    """
    # Without `predict`, which compiles every network anew.
    found = [
        keras.tree.flatten(model(batch, training=False))
        for batch in input_batches("validation", examples.x, 256)
    ]
    if len(found[0]) != 1:
        raise _wrong_outputs(model, len(found[0]))
    outputs = np.concatenate([to_array(batch) for (batch,) in found])
    if not np.isfinite(outputs).all():
        raise ValueError(
            "Argument `model` must have finite outputs on the data. "
            f"Received: NaN or infinity from {model.name!r}"
        )
    return outputs


def settings_of(task):
    """Returns the arguments that determine the result, as a dict that JSON can store.

    Args:
        task: `Task`.
    """
    weights = {str(i): w for i, w in enumerate(task.model.get_weights())}
    return {
        "weights": digest({"weights": weights}),
        "train": digest({"train": _arrays(task.train)}),
        "validation": digest({"validation": _arrays(task.validation)}),
        **_model_digests(task.model),
        "budget": task.limits.values,
        "max_drop": task.max_drop,
        "finetune": task.finetune,
        "learning_rate": task.learning_rate,
        "batch_size": task.batch_size,
        "calibration": len(keras.tree.flatten(task.calibration)[0]),
        "seed": task.seed,
        **dataclasses.asdict(task.grid),
    }


def _model_digests(model):
    """Returns hashes of the model's layers and of what it is compiled with, `None` where not."""
    serialize = keras.saving.serialize_keras_object
    compiled = {name: getattr(model, name, None) for name in ("optimizer", "loss")}
    # Keras numbers the names of layers, from where the process has come to.
    names = [layer.name for layer in (model, *all_layers(model))]
    numbers = {name: f"layer {i}" for i, name in enumerate(dict.fromkeys(names))}
    return {
        "model": _config_digest(model.get_config, numbers),
        **{n: v and _config_digest(lambda v=v: serialize(v), {}) for n, v in compiled.items()},
    }


def _config_digest(get_config, names):
    """Returns a hash of a config, or `None` if there is none.

    Args:
        get_config: Function without arguments that returns it.
        names: Dict of strings in the config to what stands for them.
    """
    try:
        # The type alone: the text of an object may have its address.
        text = json.dumps(get_config(), sort_keys=True, default=lambda o: type(o).__name__)
    except Exception:  # A model's own code may fail in any way.
        return None
    text = re.sub(r'"([^"]*)"', lambda match: names.get(match[1], match[0]), text)
    return digest({"config": {"text": np.array(text)}})


def _arrays(examples):
    named = {str(i): array for i, array in enumerate(examples.inputs.arrays)}
    return named if examples.y is None else {**named, "labels": examples.y}
