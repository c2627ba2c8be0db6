"""Reading a model changes nothing, neither during training nor if the call is refused."""

import random

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery import _keras

# On other backends the quick tier reads models with gates and with growth.
ON_EVERY_BACKEND = ("gates", "growth")
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
X = np.random.default_rng(0).normal(size=(8, 6, 6, 2)).astype("float32")
Y = (np.arange(8) % 3).astype("int32")


def make(**kwargs):
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.Flatten(),
            layers.Dense(5, "relu"),
            layers.Dense(3),
        ]
    )
    return tfl.sparsify(model, **kwargs)


def trained(sparse):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    sparse.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, run_eagerly=ON_TENSORFLOW)
    sparse.train_on_batch(X, Y)
    return sparse


def gates():
    sparse = make(gate=tfl.SoftGate(0.1))
    sparse.selection.control.anneal(10, 200.0)
    return trained(sparse)


def closed_gates():
    """All gates are closed, so calls that need a plain model are refused."""
    sparse = trained(make(gate=tfl.SoftGate(0.1)))
    sparse.selection.set_values([np.full(gate.shape, -1.0) for gate in sparse.selection.gates])
    return sparse


def soft_activations():
    sparse = make(sparsity=0.5)
    tfl.retrain.soft_activations(sparse, "swish")
    return trained(sparse)


def ghost_skips():
    """Ghost skips are active, so no plain model computes the same."""
    sparse = make(sparsity=0.5)
    tfl.retrain.ghost_skips(sparse)
    return trained(sparse)


def growth():
    sparse = make(sparsity=0.5)
    memory = tfl.layers.GrowthMemory(decay=0.9, gain=0.1)
    sparse.add_part(memory)
    memory.collect(True)
    return trained(sparse)


STATES = {f.__name__: f for f in (gates, closed_gates, soft_activations, ghost_skips, growth)}
REFUSED = {"closed_gates", "ghost_skips"}


def export_refused(sparse, path):
    with pytest.raises(ValueError, match="representative_data|gates above 0|ghost skips"):
        tfl.export_tflite(sparse, path / "m.tflite", X, quantize="int8")


# These need the plain model, which does not exist in two of the states.
OF_PLAIN_MODEL = {
    "compact": lambda sparse, path: tfl.compact(sparse),
    "export": lambda sparse, path: sparse.export(path / "saved", verbose=False),
    "export_tflite": lambda sparse, path: tfl.export_tflite(sparse, path / "m.tflite", X, runs=1),
    "sparse_inference_report": lambda sparse, path: tfl.export.sparse_inference_report(sparse, X),
}
READERS = {
    **OF_PLAIN_MODEL,
    "export_refused": export_refused,
    "summary": lambda sparse, path: str(tfl.summary(sparse)),
    "keras_summary": lambda sparse, path: sparse.summary(print_fn=lambda text: None),
    "flops": lambda sparse, path: str(tfl.flops(sparse)),
    "save": lambda sparse, path: sparse.save(path / "model.keras"),
    "get_config": lambda sparse, path: sparse.get_config(),
    "ticket": lambda sparse, path: tfl.Ticket.from_model(sparse),
    "snapshot": lambda sparse, path: tfl.Snapshot(sparse),
    "get_weights": lambda sparse, path: sparse.get_weights(),
    "density": lambda sparse, path: (sparse.density, sparse.get_kernels(), sparse.matrix_shapes),
}
NEED_THE_EXTRA = {"export_tflite", "export_refused", "sparse_inference_report"}
ON_TENSORFLOW_ONLY = {"export", *NEED_THE_EXTRA}


def values(sparse):
    variables = [*sparse.variables, *sparse.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]


def attributes(sparse):
    """Returns the class and the public attributes of all layers, by id."""
    found = []
    for layer in _keras.all_layers(sparse):
        found.append((layer, type(layer)))
        for name, value in vars(layer).items():
            # Keras may add compiled functions to the model inside.
            is_function = layer is not sparse and name.endswith("_function")
            if not name.startswith("_") and not is_function:
                value = tuple(value) if isinstance(value, list) else value
                found.append((layer, name, value))
    return found


def draws():
    return [
        keras.ops.convert_to_numpy(keras.random.uniform((2,))).tolist(),
        np.random.rand(),
        random.random(),
    ]


# They convert the model, which takes long.
CONVERTERS = ("export_tflite", "sparse_inference_report")


def marks(state, reader):
    if state in ON_EVERY_BACKEND:
        yield pytest.mark.backend(every_case=True)
    if reader in CONVERTERS and state not in ("gates", *REFUSED):
        yield pytest.mark.thorough("converts a model with gates, which has most to put back")


CASES = [
    pytest.param(state, reader, marks=list(marks(state, reader)))
    for state in STATES
    for reader in READERS
]


@pytest.fixture(scope="module")
def states():
    """Models by the names of their states, made when needed; no test changes them."""
    return {}


@pytest.mark.parametrize(("state", "reader"), CASES)
def test_reading_changes_nothing(state, reader, states, tmp_path):
    if reader in ON_TENSORFLOW_ONLY and not ON_TENSORFLOW:
        pytest.skip("needs Keras on TensorFlow")
    if reader in NEED_THE_EXTRA:
        pytest.importorskip("ai_edge_litert")
    if state not in states:
        states[state] = STATES[state]()
    sparse = states[state]
    before, had = values(sparse), attributes(sparse)
    with _keras.kept_random_state():
        expected = draws()
    if state in REFUSED and reader in OF_PLAIN_MODEL:
        with pytest.raises(ValueError, match="gates above 0|skips"):
            READERS[reader](sparse, tmp_path)
    else:
        READERS[reader](sparse, tmp_path)
    found = attributes(sparse)
    assert draws() == expected
    assert len(found) == len(had)
    for one, other in zip(found, had, strict=True):
        assert all(a is b or a == b for a, b in zip(one, other, strict=True)), one
    for value, expected in zip(values(sparse), before, strict=True):
        np.testing.assert_array_equal(value, expected)
