"""Two sparse models cannot prune the same weights."""

import gc

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery.layers import Masked

pytestmark = pytest.mark.backend


def same_model():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8, name="trunk"), layers.Dense(3)])
    return model, model


def shared_layer():
    trunk = layers.Dense(8, name="trunk")
    models = (
        keras.Sequential([keras.Input((6,)), trunk, layers.Dense(units)], name=f"net_{units}")
        for units in (3, 4)
    )
    return tuple(models)


def nested_model():
    inner, _ = same_model()
    return inner, keras.Sequential([keras.Input((6,)), inner, layers.Dense(4)], name="outer")


def outer_model():
    inner, outer = nested_model()
    return outer, inner


PAIRS = [same_model, shared_layer, nested_model, outer_model]


@pytest.mark.parametrize("make", PAIRS)
def test_weights_of_another_sparse_model_are_refused(make):
    first, second = make()
    sparse = tfl.sparsify(first)
    with pytest.raises(ValueError, match=rf"`tfl.strip`(.|\n)*'{first.name}'.*trunk/kernel"):
        tfl.sparsify(second, sparsity=0.5)
    assert sparse.sparsity == 0


@pytest.mark.parametrize("make", PAIRS)
def test_stripped_weights_can_be_pruned_again(make):
    first, second = make()
    sparse = tfl.sparsify(first, sparsity=0.5)
    tfl.strip(sparse)
    again = tfl.sparsify(second, keep_zeros=True)
    (trunk,) = [mask for path, mask in again.get_masks().items() if "trunk" in path]
    assert np.mean(trunk) == 0.5
    # What was released stays with its new owner.
    tfl.strip(sparse)
    with pytest.raises(ValueError, match="must not be pruned by another sparse model"):
        tfl.sparsify(first)


def test_sparse_model_in_a_functional_model_is_refused():
    inner = tfl.sparsify(same_model()[0])
    outputs = layers.Dense(2)(inner(inputs := keras.Input((6,))))
    with pytest.raises(ValueError, match="contain a sparse model"):
        tfl.sparsify(keras.Model(inputs, outputs))


def test_wrapped_layer_is_refused():
    layer = layers.Dense(3)
    masked = Masked(layer)
    masked.build((None, 2))
    for again in (Masked(layer), Masked(masked)):
        with pytest.raises(ValueError, match="must not be pruned by another"):
            again.build((None, 2))


def test_other_weights_of_the_same_layers_are_refused():
    model, _ = same_model()
    sparse = tfl.sparsify(model, include="trunk")
    with pytest.raises(ValueError, match="must not be pruned by another"):
        tfl.sparsify(model, exclude="trunk")
    assert len(sparse.kernels) == 1


def test_sparse_model_that_is_not_used_any_more_does_not_count(make_data):
    model, _ = same_model()
    sparse = tfl.sparsify(model)
    sparse.compile("sgd", "mse", run_eagerly=keras.backend.backend() == "tensorflow")
    x, _ = make_data()
    sparse.fit(x, np.zeros((len(x), 3)), verbose=0)
    gc.disable()
    try:
        del sparse
        assert tfl.sparsify(model).sparsity == 0
    finally:
        gc.enable()


def test_refused_arguments_do_not_claim_the_weights():
    model, _ = same_model()
    with pytest.raises(ValueError, match="distribution") as kept:
        tfl.sparsify(model, sparsity=0.5, distribution={"trunc": 0.9})
    assert tfl.sparsify(model).sparsity == 0
    assert kept.traceback


def test_copies_and_files_have_their_own_weights(tmp_path):
    model, _ = same_model()
    sparse = tfl.sparsify(model)
    sparse.save(tmp_path / "sparse.keras")
    loaded = keras.saving.load_model(tmp_path / "sparse.keras")
    assert tfl.sparsify(keras.models.clone_model(model)).sparsity == loaded.sparsity == 0
    assert tfl.sparsify(tfl.strip(loaded)).sparsity == 0
