import warnings

import keras
import numpy as np
import pytest

import tf_lottery as tfl


@pytest.fixture
def pruned(make_model):
    """A plain model: three quarters of one kernel and half of the other are zero."""
    model = make_model()
    for layer, period in zip(model.layers, (4, 2), strict=True):
        kernel = keras.ops.convert_to_numpy(layer.kernel).copy()
        kernel.reshape(-1)[np.arange(kernel.size) % period != 0] = 0
        layer.kernel.assign(kernel)
    return model


def zeros(model):
    return [keras.ops.convert_to_numpy(layer.kernel) == 0 for layer in model.layers]


def masks(sparse):
    return list(sparse.get_masks().values())


def test_zeros_are_kept(pruned):
    before = zeros(pruned)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        sparse = tfl.sparsify(pruned, keep_zeros=True)
    for mask, zero in zip(masks(sparse), before, strict=True):
        np.testing.assert_array_equal(mask, ~zero)


def test_sparsity_counts_the_zeros_that_are_kept(pruned):
    before = zeros(pruned)
    sparse = tfl.sparsify(pruned, 0.75, keep_zeros=True)
    assert [np.count_nonzero(mask) for mask in masks(sparse)] == [12, 6]
    assert not any(np.any(m & z) for m, z in zip(masks(sparse), before, strict=True))


def test_kernel_of_zeros_alone_stays_dense(pruned):
    pruned.layers[1].kernel.assign(np.zeros((8, 3)))
    with pytest.warns(UserWarning, match=r"wholly zero stay dense: \['.*output/kernel'\]"):
        sparse = tfl.sparsify(pruned, keep_zeros=True)
    assert [mask.mean() for mask in masks(sparse)] == [0.25, 1.0]


def test_zeros_have_to_follow_the_pattern(make_model):
    def model(rows):
        plain = make_model()
        kernel = np.ones((8, 3))
        kernel[rows] = 0
        plain.layers[1].kernel.assign(kernel)
        return plain

    sparse = tfl.sparsify(model([0, 1, 4, 5]), pattern="2:4", exclude="hidden", keep_zeros=True)
    assert sparse.sparsity == 0.5
    with pytest.raises(ValueError, match="`pattern` must be one that.*pattern='2:4'.*output"):
        tfl.sparsify(model([0, 1, 4]), pattern="2:4", exclude="hidden", keep_zeros=True)


@pytest.mark.parametrize("bias", [0.0, 2.0])
def test_channels_of_zeros_have_to_be_zero(bias, make_model):
    model = make_model()
    kernel, biases = np.ones((6, 8)), np.ones(8)
    kernel[:, 3], biases[3] = 0.0, bias
    model.layers[0].set_weights([kernel, biases])
    if bias:
        with pytest.raises(ValueError, match="`keep_zeros` must be .*tfl.compact.*hidden/bias"):
            tfl.sparsify(model, pattern="channel", keep_zeros=True)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.layers[0].bias), biases)
    else:
        sparse = tfl.sparsify(model, pattern="channel", keep_zeros=True)
        [kept] = sparse.kept_channels().values()
        assert np.flatnonzero(~kept).tolist() == [3]


def test_zeros_that_training_revives_are_warned_of(pruned):
    with pytest.warns(UserWarning, match=r"hidden/kernel': '75%'.*keep_zeros=True") as warned:
        tfl.sparsify(pruned)
    assert sum("will revive" in str(warning.message) for warning in warned) == 1


def half_zero(variable):
    values = np.arange(np.prod(variable.shape))
    values[::2] = 0
    variable.assign(values.reshape(variable.shape))


@pytest.mark.parametrize("keep_zeros", [False, True])
def test_zeros_of_weights_that_are_not_selected_are_warned_of(keep_zeros):
    words = keras.layers.Embedding(6, 3, name="words")
    plain = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            words,
            keras.layers.DepthwiseConv1D(3, name="depthwise"),
            keras.layers.Dense(2),
        ]
    )
    half_zero(words.embeddings)
    half_zero(plain.get_layer("depthwise").kernel)
    with pytest.warns(UserWarning, match=r"not selected.*words/embeddings': '50%'.*include"):
        tfl.sparsify(plain, keep_zeros=keep_zeros)
    with pytest.warns(UserWarning, match=r"depthwise/kernel': '56%'"):
        tfl.sparsify(plain, include="dense|words", keep_zeros=True)


def test_embeddings_of_unknown_words_are_not_warned_of():
    words = keras.layers.Embedding(6, 3)
    plain = keras.Sequential([keras.Input((5,)), words, keras.layers.Dense(2)])
    values = np.ones((6, 3)) + np.arange(3)
    values[[0, 3]] = 0
    words.embeddings.assign(values)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tfl.sparsify(plain)


def test_zeros_that_are_pruned_or_not_trained_are_not_warned_of(pruned):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tfl.sparsify(pruned, 0.75)
        pruned.trainable = False
        tfl.sparsify(pruned, include=".")


@pytest.mark.backend
def test_masks_of_a_sparse_model_that_is_gone_are_found(make_model):
    model = make_model()
    tfl.sparsify(model, 0.5)
    with pytest.warns(UserWarning, match="'50%'"):
        tfl.sparsify(model)
    assert tfl.sparsify(model, keep_zeros=True).sparsity == 0.5


@pytest.mark.backend
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("initializer", ["glorot_uniform", "he_normal", "zeros", "identity"])
def test_fresh_models_are_not_warned_of(initializer, dtype):
    cell = {"recurrent_initializer": initializer, "dtype": dtype}
    model = keras.Sequential([keras.Input((4, 3)), keras.layers.SimpleRNN(16, **cell)])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tfl.sparsify(model)


def test_biases_that_are_pruned_with_their_channels_do_not_warn():
    bias = keras.initializers.RandomNormal(seed=0)
    gru = keras.layers.GRU(4, bias_initializer=bias)
    model = keras.Sequential([keras.Input((3, 2)), gru, keras.layers.Dense(2)])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        sparse = tfl.sparsify(model, 0.5, pattern="channel")
        assert np.count_nonzero(tfl.strip(sparse).layers[0].cell.bias) == 12
