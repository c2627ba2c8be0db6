"""A network of the user's own, from a `.keras` file."""

import pathlib

import keras
import numpy as np

from tf_lottery.data_sets import to_array
from tf_lottery.experiments.labels import are_logits, class_numbers
from tf_lottery.experiments.model_file import file_digest, load_plain
from tf_lottery.export.inputs import make_inputs

SUFFIXES = (".keras", ".h5", ".hdf5")
# Examples that show what the outputs are.
_TRIED = 64
_ONE_HOT_LOSS, _BINARY_LOSS = "categorical_crossentropy", "binary_crossentropy"
_ACCURACIES = ("acc", "accuracy", "binary_accuracy", "categorical_accuracy")
_ACCURACIES += tuple(f"sparse_{name}" for name in _ACCURACIES)


def is_file(name):
    """Returns whether the name of a network is that of a file.

    Args:
        name: String.

    Example:

    >>> is_file("mine.keras"), is_file("lenet-5")
    (True, False)
    """
    return name.endswith(SUFFIXES)


def identity(path):
    """Returns what tells a network from others, for the settings of a run.

    Args:
        path: The `.keras` file.

    Raises:
        OSError: If there is no such file.
    """
    return {"model": pathlib.Path(path).name, "model_digest": file_digest(path)}


def load_network(path, data):
    """Loads a classifier, and compiles it for class numbers as labels.

    It keeps the loss and the metrics that it was saved with; the cross-entropy of one-hot labels
    becomes that of class numbers, which is the same. A network that was saved without a loss gets
    the cross-entropy, of logits if an output for some of the data is outside [0, 1].

    Args:
        path: The `.keras` file. The weights are the initial ones of a training.
        data: `Data`.

    Raises:
        OSError: If there is no such file.
        ValueError: If it holds no model, or one that does not fit the data.

    Example:

    >>> from tf_lottery.experiments.data import load
    >>> from tf_lottery.experiments.models import lenet_300_100
    >>> lenet_300_100((8, 8, 1)).save("mine.keras")
    >>> load_network("mine.keras", load("digits")).loss.get_config()["from_logits"]
    True
    """
    model = load_plain(path)
    for x, _ in (data.train, data.validation, data.test):
        make_inputs(model, keras.tree.map_structure(lambda a: a[:1], x), 0, "data")
    outputs = _outputs(model, data.train[0])
    for _, y in (data.train, data.validation, data.test):
        class_numbers("data", y, (len(y), *outputs.shape[1:]))
    saved = model.get_compile_config() or {}
    # A saved optimizer has the state of another training.
    optimizer = getattr(model, "optimizer", None)
    optimizer = type(optimizer).from_config(optimizer.get_config()) if optimizer else "adam"
    loss, is_other = _loss(model, outputs)
    model.compile(optimizer, loss)
    _check_loss(model, outputs)
    metrics = [_accuracy(model, outputs)] + ([] if is_other else _other_metrics(saved))
    model.compile(optimizer, loss, metrics=metrics)
    return model


def _outputs(model, x):
    """Returns the outputs for some examples."""
    examples = keras.tree.map_structure(lambda a: keras.ops.convert_to_tensor(a[:_TRIED]), x)
    found = [to_array(output) for output in keras.tree.flatten(model(examples, training=False))]
    if len(found) != 1 or found[0].ndim < 2 or not np.isfinite(found[0]).all():
        received = [f"shape {(None, *output.shape[1:])}" for output in found]
        finite = "" if all(np.isfinite(output).all() for output in found) else ", NaN or infinity"
        raise ValueError(
            "Argument `model` must have one finite output for every class, or one number for two "
            f"classes. Received: outputs of {', '.join(received)}{finite}"
        )
    return found[0]


def _loss(model, outputs):
    """Returns the loss for class numbers, and whether it is another one than the model's."""
    losses = keras.tree.flatten(getattr(model, "loss", None))
    loss = losses[0] if losses else None
    loss = keras.losses.get(loss) if isinstance(loss, str) else loss
    if loss is None:
        logits = are_logits(model, outputs)
        if outputs.shape[-1] == 1:
            return keras.losses.BinaryCrossentropy(from_logits=logits), False
        return keras.losses.SparseCategoricalCrossentropy(from_logits=logits), False
    if isinstance(loss, keras.losses.CategoricalCrossentropy):
        config = loss.get_config()
        if config.get("label_smoothing"):
            raise ValueError(
                "Argument `model` must be compiled without label smoothing, which "
                "`tf-lottery retrain --tweaks label-smoothing` has. "
                f"Received: label_smoothing={config['label_smoothing']}"
            )
        logits = bool(config.get("from_logits", False))
        return keras.losses.SparseCategoricalCrossentropy(from_logits=logits), True
    name = getattr(loss, "__name__", loss)
    if name == _ONE_HOT_LOSS:
        return keras.losses.SparseCategoricalCrossentropy(), True
    if name == _BINARY_LOSS:
        # The function, unlike the class, does not take labels without the axis of one output.
        return keras.losses.BinaryCrossentropy(), False
    return loss, False


def _check_loss(model, outputs):
    """Raises a `ValueError` if the loss of a compiled model does not take class numbers."""
    if outputs.shape[-1] == 1:
        return
    # Of another number than there are classes, so that it is not taken for rows of these.
    outputs = np.resize(outputs, (outputs.shape[-1] + 1, *outputs.shape[1:]))
    try:
        model.compute_loss(
            y=keras.ops.zeros(outputs.shape[:-1], "int32"),
            y_pred=keras.ops.convert_to_tensor(outputs),
        )
    except Exception as error:  # Backends raise errors of their own.
        loss = getattr(model.loss, "name", getattr(model.loss, "__name__", model.loss))
        raise ValueError(
            "Argument `model` must be compiled with a loss for class numbers, such as "
            f"'sparse_categorical_crossentropy'. Received: loss={loss!r}"
        ) from error


def _accuracy(model, outputs):
    if outputs.shape[-1] > 1:
        return keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    # What Keras makes of the name "accuracy" would compare logits with a half.
    is_above_zero = are_logits(model, outputs)
    return keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0 if is_above_zero else 0.5)


def _other_metrics(saved):
    """Returns the metrics of a compiled model beside its accuracy."""
    metrics = keras.saving.deserialize_keras_object(saved.get("metrics") or [])
    return [m for m in keras.tree.flatten(metrics) if getattr(m, "name", m) not in _ACCURACIES]
