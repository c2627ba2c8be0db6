"""Copies of sparse models: by configuration, by file, by pickle."""

import copy
import os
import pickle
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl

pytestmark = pytest.mark.backend
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
X, Y = np.ones((4, 6), "float32"), np.ones((4, 3), "float32")
MISSING = r"sparsity 0.500, which holds no masks.*sparsity 0.000.*`clone.set_weights"


@pytest.fixture
def sparse(make_model):
    return compiled(tfl.sparsify(make_model(), sparsity=0.5))


def compiled(model):
    model.compile("sgd", "mse", run_eagerly=ON_TENSORFLOW)
    return model


def outer(sparse):
    return keras.Sequential([keras.Input((6,)), sparse, layers.Dense(3)])


def with_wrapper():
    wrapper = tfl.layers.Masked(layers.Dense(4))
    model = keras.Sequential([keras.Input((6,)), wrapper, layers.Dense(3)])
    wrapper.set_masks([np.tile([[True], [False]], (3, 4))])
    return model


# Ways to copy a model's configuration.
BY_CONFIG = {
    "clone_model": keras.models.clone_model,
    "from_config": lambda model: type(model).from_config(model.get_config()),
    "json": lambda model: keras.models.model_from_json(model.to_json()),
}
USES = {
    "call": lambda model: model(X),
    "predict": lambda model: model.predict(X, verbose=0),
    "fit": lambda model: compiled(model).fit(X, Y, verbose=0),
    "train_on_batch": lambda model: compiled(model).train_on_batch(X, Y),
}


@pytest.mark.parametrize("way", BY_CONFIG)
@pytest.mark.parametrize("use", USES)
def test_copy_without_masks_warns_at_its_first_use(way, use, sparse):
    clone = BY_CONFIG[way](sparse)
    with pytest.warns(UserWarning, match=MISSING):
        USES[use](clone)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*holds no masks")
        USES[use](clone)


@pytest.mark.parametrize("make", [outer, lambda sparse: with_wrapper()])
def test_copy_inside_a_model_warns(make, sparse):
    model = make(sparse)
    with pytest.warns(UserWarning, match=MISSING):
        keras.models.clone_model(model).predict(X, verbose=0)


def test_copy_with_masks_is_silent(sparse):
    model = outer(sparse)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*holds no masks")
        for either in (sparse, model):
            clone = keras.models.clone_model(either)
            clone.set_weights(either.get_weights())
            expected = either.predict(X, verbose=0)
            np.testing.assert_array_equal(clone.predict(X, verbose=0), expected)
        clone = keras.models.clone_model(sparse)
        clone.set_masks(sparse.get_masks())
        compiled(clone).fit(X, Y, verbose=0)
        assert clone.sparsity == 0.5
        clone = keras.models.clone_model(sparse)
        tfl.Ticket.from_model(sparse).apply(clone)
        compiled(clone).fit(X, Y, verbose=0)
        # A dense model has no masks to lose.
        keras.models.clone_model(tfl.sparsify(keras.models.clone_model(sparse.model))).predict(X)


def test_copy_of_gates_warns(make_model):
    sparse = tfl.sparsify(make_model(), gate=tfl.SoftGate())
    sparse.selection.set_values([np.resize([0.1, -0.1], g.shape) for g in sparse.selection.gates])
    with pytest.warns(UserWarning, match="sparsity 0.500, which holds no masks.*sparsity 1.000"):
        keras.models.clone_model(sparse).predict(X, verbose=0)


def test_scikit_learn_wrapper_warns():
    pytest.importorskip("sklearn", reason="no scikit-learn")
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.Dense(1)])
    sparse = compiled(tfl.sparsify(model, sparsity=0.5))
    wrapper = keras.wrappers.SKLearnRegressor(sparse, fit_kwargs={"verbose": 0})
    with pytest.warns(UserWarning, match=MISSING):
        wrapper.fit(X, Y[:, 0])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_duplicates_go_on_alike(duplicate, sparse):
    sparse.fit(X, Y, verbose=0)
    other = duplicate(sparse)
    assert other.sparsity == 0.5 and other.kernels.keys() == sparse.kernels.keys()
    for model in (sparse, other):
        model.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(other.predict(X), sparse.predict(X))


SCRIPT = """
import sys
import tf_lottery
import keras
import numpy as np
model = keras.saving.load_model(sys.argv[1])
np.save(sys.argv[2], model.predict(np.ones((4, 6), "float32"), verbose=0))
"""


@pytest.mark.thorough("imports TensorFlow in another process")
@pytest.mark.parametrize("state", ["masks", "gates", "growth", "tweaks"])
def test_loads_where_nothing_but_the_library_was_imported(state, make_model, tmp_path):
    gate = tfl.SoftGate(0.1) if state == "gates" else None
    sparse = tfl.sparsify(make_model(), sparsity=0.0 if gate else 0.5, gate=gate)
    if state == "growth":
        sparse.add_part(tfl.layers.GrowthMemory(decay=0.9))
    if state == "tweaks":
        tfl.retrain.soft_activations(sparse, "swish")
    sparse.save(tmp_path / "model.keras")
    command = [sys.executable, "-c", SCRIPT, tmp_path / "model.keras", tmp_path / "found.npy"]
    subprocess.run(command, check=True, env={**os.environ}, timeout=300)
    expected = sparse.predict(X, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, rtol=1e-5)
