import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery.retrain import rescale_to_density

MASK = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]], bool)
KERNEL = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]], "float32")


@pytest.fixture
def sparse():
    """A layer of three units with 1, 4 and 0 of 4 inputs; pruned weights have the value ten."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, bias_initializer="ones")])
    sparse = tfl.sparsify(model)
    [path] = sparse.kernels
    sparse.set_masks({path: MASK})
    sparse.kernels[path].assign(np.where(MASK, KERNEL, 10))
    return sparse


def test_units_by_their_own_inputs(sparse):
    [factors] = rescale_to_density(sparse).values()
    np.testing.assert_allclose(factors, [2, 1, 1])
    [kernel] = sparse.kernels.values()
    np.testing.assert_array_equal(kernel, [[2, 2, 0], [0, 5, 0], [0, 8, 0], [0, 11, 0]])
    np.testing.assert_array_equal(sparse.model.layers[0].bias, [1, 1, 1])
    np.testing.assert_array_equal(sparse.get_masks().popitem()[1], MASK)


def test_layers_by_their_density(sparse):
    [(path, factor)] = rescale_to_density(sparse, per="layer").items()
    assert path in sparse.kernels
    assert isinstance(factor, float) and factor == pytest.approx(np.sqrt(12 / 5))
    expected = np.array([[1, 2, 0], [0, 5, 0], [0, 8, 0], [0, 11, 0]]) * np.sqrt(12 / 5)
    np.testing.assert_allclose(sparse.kernels[path], expected, rtol=1e-6)


def test_every_call_multiplies_again(sparse):
    rescale_to_density(sparse)
    rescale_to_density(sparse)
    assert float(sparse.get_kernels().popitem()[1][0, 0]) == 4


def test_the_example():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, name="dense")], name="model")
    sparse = tfl.sparsify(model, sparsity=0.75)
    [factor] = rescale_to_density(sparse, per="layer").values()
    assert factor == 2.0


def test_units_of_convolutions_sum_over_positions_and_channels():
    model = keras.Sequential([keras.Input((4, 4, 2)), layers.Conv2D(2, 2, use_bias=False)])
    sparse = tfl.sparsify(model)
    [path] = sparse.kernels
    mask = np.zeros((2, 2, 2, 2), bool)
    mask[0, 1, 1, 0] = mask[1, 0, 0, 0] = mask[1, 1, 0, 1] = True
    sparse.kernels[path].assign(np.ones((2, 2, 2, 2)))
    sparse.set_masks({path: mask})
    np.testing.assert_allclose(rescale_to_density(sparse)[path], [2, np.sqrt(8)])
    expected = np.zeros((2, 2, 2, 2))
    expected[0, 1, 1, 0] = expected[1, 0, 0, 0] = 2
    expected[1, 1, 0, 1] = np.sqrt(8)
    np.testing.assert_allclose(sparse.kernels[path], expected, rtol=1e-6)


def test_kernels_that_are_no_matrix_go_by_their_density():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            layers.DepthwiseConv2D(2, use_bias=False),
            layers.Conv2DTranspose(3, 2, use_bias=False),
        ]
    )
    sparse = tfl.sparsify(model, include=".")
    assert set(sparse.matrix_shapes.values()) == {None}
    masks = {path: np.zeros(kernel.shape, bool) for path, kernel in sparse.kernels.items()}
    for mask in masks.values():
        mask[0, 0] = True
    before = sparse.get_kernels()
    sparse.set_masks(masks)
    assert list(rescale_to_density(sparse).values()) == [2.0, 2.0]
    for path, kernel in sparse.kernels.items():
        np.testing.assert_allclose(kernel, 2 * before[path] * masks[path], rtol=1e-6)


def test_a_kernel_without_weights_stays_zero(sparse):
    [path] = sparse.kernels
    sparse.set_masks({path: np.zeros_like(MASK)})
    assert rescale_to_density(sparse, per="layer") == {path: 1.0}
    np.testing.assert_array_equal(sparse.kernels[path], np.zeros((4, 3)))


@pytest.mark.parametrize("per", ["unit", "layer"])
def test_units_see_the_variance_of_a_dense_layer(per):
    initializer = keras.initializers.HeNormal(seed=0)
    model = keras.Sequential(
        [keras.Input((400,)), layers.Dense(300, kernel_initializer=initializer)]
    )
    x = np.random.default_rng(0).normal(size=(50, 400)).astype("float32")
    dense = np.var(model.predict(x, verbose=0))
    sparse = tfl.sparsify(model, sparsity=0.9, scores="random")
    faded = np.var(sparse.predict(x, verbose=0))
    rescale_to_density(sparse, per)
    assert faded / dense == pytest.approx(0.1, rel=0.1)
    assert np.var(sparse.predict(x, verbose=0)) / dense == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("kind", ["nested", "recurrent_deep", "attention", "subclassed"])
def test_every_model(kind, make_model):
    sparse = tfl.sparsify(make_model(kind), sparsity=0.5)
    chosen = {id(kernel) for kernel in sparse.wrapper.kernels}
    before = {id(w): np.array(keras.ops.convert_to_numpy(w)) for w in sparse.model.weights}
    kernels, factors = sparse.to_matrices(sparse.get_kernels()), rescale_to_density(sparse)
    after = sparse.to_matrices(sparse.get_kernels())
    for path, kernel in kernels.items():
        np.testing.assert_allclose(after[path], kernel * factors[path], rtol=1e-6)
    for weight in sparse.model.weights:
        if id(weight) not in chosen:
            np.testing.assert_array_equal(weight, before[id(weight)])


def test_kernels_keep_their_data_type(make_model, request):
    before = keras.config.dtype_policy()
    request.addfinalizer(lambda: keras.config.set_dtype_policy(before))
    keras.config.set_dtype_policy("bfloat16")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    sparse = tfl.sparsify(model)
    [path] = sparse.kernels
    sparse.set_masks({path: MASK})
    sparse.kernels[path].assign(KERNEL)
    rescale_to_density(sparse)
    kernel = keras.ops.cast(sparse.kernels[path], "float32")
    np.testing.assert_array_equal(kernel, [[2, 2, 0], [0, 5, 0], [0, 8, 0], [0, 11, 0]])


def test_arguments_that_do_not_fit(sparse):
    with pytest.raises(ValueError, match="`per` must be one of.*Received: per='channel'"):
        rescale_to_density(sparse, per="channel")
    with pytest.raises(ValueError, match="`model` must be a `SparseModel`"):
        rescale_to_density(sparse.model)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(ValueError, match="`model` must not have soft gates"):
        rescale_to_density(tfl.sparsify(model, gate=tfl.SoftGate()))
