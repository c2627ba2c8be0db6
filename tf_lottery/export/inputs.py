"""The sample inputs on which a file is compared with Keras."""

import dataclasses
import re

import keras
import numpy as np

from tf_lottery.layers.inputs import model_inputs

NUM_SAMPLES = 16
# How many examples a run of a file with an open number of them has.
NUM_OPEN = 2
SIGNATURE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
KERAS_NAME = re.compile("keras_tensor|input_layer")
# Keras data types, and the NumPy kinds (`dtype.kind`) that are accepted for each.
KINDS = {"float": "fiub", "int": "iub", "uint": "iub", "bool": "b"}


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The sample inputs of a model, in the order of its inputs.

    Args:
        names: List of the inputs' names in the file.
        structure: The model's inputs as Keras nests them.
        batch: Integer, the number of examples per run.
        arrays: List of arrays with all examples.
        open_axes: List of sets of integers, the axes of each input whose length the file leaves
            open. Defaults to none.
    """

    names: list
    structure: object
    batch: int
    arrays: list
    open_axes: list = ()

    def signature(self):
        """Returns tuples of the name, shape (`None` for open lengths) and type of each input."""
        open_axes = self.open_axes or [()] * len(self.names)
        return [
            (name, [None if i in axes else n for i, n in enumerate(x.shape)], x.dtype)
            for (name, x), axes in zip(next(self.steps()).items(), open_axes, strict=True)
        ]

    def pack(self, tensors):
        """Returns the tensors nested as the model takes them."""
        return keras.tree.pack_sequence_as(self.structure, list(tensors))

    def steps(self):
        """Yields a dict of names to arrays for every run."""
        for start in range(0, len(self.arrays[0]), self.batch):
            yield {
                name: array[start : start + self.batch]
                for name, array in zip(self.names, self.arrays, strict=True)
            }


def make_inputs(
    model, sample_inputs, seed, argument="sample_inputs", batch=None, dynamic_shapes=False
):
    """Returns the sample inputs: those given, checked, or random ones in the model's shapes.

    Args:
        model: A built `keras.Model`.
        sample_inputs: The user's argument: array, list or dict of arrays, or `None`.
        seed: Integer, for random inputs.
        argument: String, the argument's name for messages. Defaults to `"sample_inputs"`.
        batch: Integer, the number of examples that the file takes. Defaults to `None`: the
            model's own fixed number, or one.
        dynamic_shapes: Boolean, whether the file leaves open what the model leaves open. Defaults
            to `False`.

    Raises:
        ValueError: If the arrays do not fit the model, or random ones cannot be made.
    """
    structure = model_inputs(model, sample_inputs)
    if structure is None:
        raise ValueError(
            f"Argument `{argument}` must be given for a model that does not know the shapes "
            f"of its inputs. Received: {argument}=None, model={model.name!r}"
        )
    tensors = keras.tree.flatten(structure)
    keys = flat_keys(structure) or [tensor.name for tensor in tensors]
    _check_numbers(model, keys, tensors)
    batch = _batch(tensors[0].shape[0], batch, dynamic_shapes)
    if sample_inputs is None:
        rng = np.random.default_rng(seed)
        arrays = [_random_array(*pair, batch, rng) for pair in zip(keys, tensors, strict=True)]
    else:
        arrays = _flat_samples(sample_inputs, structure, keys)
        _check_samples(arrays, sample_inputs, keys, tensors, argument)
        if len(arrays[0]) < batch:
            raise ValueError(
                f"Argument `{argument}` must have at least the {batch} examples of a run. "
                f"Received: {len(arrays[0])} examples"
            )
        _check_finite(arrays, keys, argument)
        arrays = [x.astype(tensor.dtype) for x, tensor in zip(arrays, tensors, strict=True)]
    # The numbers in names that Keras chose change when a model is loaded. The file must not
    # depend on them.
    own = all(SIGNATURE_NAME.fullmatch(key) and not KERAS_NAME.search(key) for key in keys)
    names = keys if own else [f"input_{i}" for i in range(len(keys))]
    if len(arrays[0]) % batch:
        # An open number is tried with several examples, of which there may be an odd one.
        arrays = [x[: len(x) // batch * batch] for x in arrays]
    open_axes = [{i for i, n in enumerate(x.shape) if n is None} for x in tensors]
    return Inputs(names, structure, batch, arrays, open_axes if dynamic_shapes else ())


def _check_numbers(model, keys, tensors):
    text = [key for key, tensor in zip(keys, tensors, strict=True) if tensor.dtype == "string"]
    if text:
        raise ValueError(
            "Argument `model` must take numbers. Cut its preprocessing off: export "
            "`keras.Model(the output of the last lookup or vectorization layer, model.outputs)`, "
            f"and look words up before the file runs. Received: model={model.name!r}, which takes "
            f"text as {text}"
        )


def _batch(own, batch, dynamic_shapes):
    """Returns the number of examples of a run.

    Args:
        own: Integer, that of the model, or `None`.
        batch: The user's argument.
        dynamic_shapes: Boolean.
    """
    if batch is not None and (own not in (None, batch) or dynamic_shapes):
        raise ValueError(
            "Argument `batch` must be None for dynamic_shapes=True, and for a model with a fixed "
            f"number of examples. Received: batch={batch}, the model takes {own or 'any number'}"
        )
    return batch or own or (NUM_OPEN if dynamic_shapes else 1)


def flat_keys(structure):
    """Returns the keys of a flat dict of tensors in the order of `keras.tree`, else `None`.

    Args:
        structure: Tensors as Keras nests them.
    """
    if isinstance(structure, dict) and len(structure) == len(keras.tree.flatten(structure)):
        return keras.tree.flatten({key: str(key) for key in structure})
    return None


def _random_array(key, tensor, batch, rng):
    shape, kinds = tensor.shape[1:], _kinds(tensor)
    if None in shape or not kinds:
        raise ValueError(
            "Argument `sample_inputs` must be given for a model whose inputs have open "
            f"dimensions or are not numbers. Received: sample_inputs=None, input {key!r} of "
            f"shape {tensor.shape} and dtype {tensor.dtype}"
        )
    shape = (NUM_SAMPLES * batch, *shape)
    values = rng.normal(size=shape) if "f" in kinds else rng.integers(0, 2, size=shape)
    return values.astype(tensor.dtype)


def _flat_samples(sample_inputs, structure, keys):
    if isinstance(sample_inputs, dict):
        if set(sample_inputs) == set(keys):
            sample_inputs = [sample_inputs[key] for key in keys]
        elif not isinstance(structure, dict) or set(sample_inputs) != set(structure):
            return []
    return [np.asarray(array) for array in keras.tree.flatten(sample_inputs)]


def _check_samples(arrays, sample_inputs, keys, tensors, argument):
    def fits(array, tensor):
        return (
            array.ndim == len(tensor.shape)
            and array.dtype.kind in _kinds(tensor)
            and all(b in (None, a) for a, b in zip(array.shape[1:], tensor.shape[1:], strict=True))
            and len(array) == len(arrays[0]) > 0
            and len(array) % (tensor.shape[0] or 1) == 0
        )

    if len(arrays) != len(keys) or not all(map(fits, arrays, tensors)):
        wanted = {key: f"{x.shape} {x.dtype}" for key, x in zip(keys, tensors, strict=True)}
        received = keras.tree.map_structure(
            lambda x: f"{np.shape(x)} {np.asarray(x).dtype.name}", sample_inputs
        )
        raise ValueError(
            f"Argument `{argument}` must have one array per input, all with the same number "
            f"of examples, at least one, of these shapes and types: {wanted}. Received: {received}"
        )


def _check_finite(arrays, keys, argument):
    bad = [key for key, x in zip(keys, arrays, strict=True) if not np.all(np.isfinite(x))]
    if bad:
        raise ValueError(
            f"Argument `{argument}` must be finite. Received: NaN or infinity in inputs {bad}"
        )


def _kinds(tensor):
    return KINDS.get(tensor.dtype.rstrip("0123456789"), "")
