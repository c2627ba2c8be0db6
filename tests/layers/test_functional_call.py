import contextlib

import keras
import numpy as np
import pytest
from keras import ops

from tf_lottery.layers import functional_call

pytestmark = pytest.mark.backend


def test_computes_with_the_replacement_and_leaves_the_variable():
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    layer.build((None, 2))
    outputs = functional_call(layer, [(layer.kernel, ops.array([[2.0], [3.0]]))], np.ones((1, 2)))
    np.testing.assert_array_equal(outputs, [[5.0]])
    np.testing.assert_array_equal(layer.kernel, np.ones((2, 1)))


def test_batch_statistics_and_seeds_move_as_in_an_ordinary_call():
    def make():
        return keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.5, seed=1),
            ]
        )

    plain, called = make(), make()
    x = np.random.default_rng(0).normal(2, 3, (8, 3)).astype("float32")
    for _ in range(2):
        expected = plain(x, training=True)
        np.testing.assert_array_equal(functional_call(called, [], x, training=True), expected)
    for variable, expected in zip(called.variables, plain.variables, strict=True):
        np.testing.assert_array_equal(variable, expected)
    assert not np.allclose(called.layers[0].moving_mean, 0)


def test_shared_layer_is_replaced_wherever_it_is_used():
    inputs = keras.Input((2,))
    shared = keras.layers.Dense(2, use_bias=False)
    model = keras.Model(inputs, shared(shared(inputs)))
    outputs = functional_call(model, [(shared.kernel, 2 * ops.eye(2))], np.ones((1, 2), "float32"))
    np.testing.assert_array_equal(outputs, [[4.0, 4.0]])


def test_an_inner_call_reads_and_assigns_other_layers_as_the_outer_one():
    class Outer(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = keras.layers.Dense(2, use_bias=False, kernel_initializer="zeros")
            self.other = keras.layers.BatchNormalization(momentum=0.0)
            self.inner.build((None, 2))
            self.other.build((None, 2))
            self.built = True

        def call(self, inputs):
            def call(inputs):
                return self.other(self.inner(inputs), training=True)

            return functional_call(self.inner, [(self.inner.kernel, ops.eye(2))], inputs, call=call)

    outer = Outer()
    x = np.array([[1.0, 5.0], [3.0, 5.0]], "float32")
    outputs = functional_call(outer, [(outer.other.beta, ops.array([0.0, 7.0]))], x)
    np.testing.assert_allclose(outputs, [[-1.0, 7.0], [1.0, 7.0]], atol=1e-2)
    np.testing.assert_allclose(outer.other.moving_mean, [2.0, 5.0])
    # By itself too, without an outer call.
    outer(2 * x)
    np.testing.assert_allclose(outer.other.moving_mean, [4.0, 10.0])


def test_weights_assigned_in_half_precision_stay_in_full():
    dense = keras.layers.Dense(2, use_bias=False, dtype="mixed_bfloat16")
    layer = keras.layers.SpectralNormalization(dense, dtype="mixed_bfloat16")
    layer.build((None, 3))
    dense.kernel.assign(4 * np.eye(3, 2) + 1e-3)
    functional_call(layer, [], np.ones((1, 3), "float32"), training=True)
    assert keras.backend.standardize_dtype(dense.kernel.dtype) == "float32"
    assert 0.9 < np.linalg.norm(ops.convert_to_numpy(dense.kernel), 2) < 1.1


def test_losses_of_the_layers_reach_the_outside_once():
    class Outer(keras.layers.Layer):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner
            self.built = True

        def call(self, inputs):
            return functional_call(self.inner, [], inputs)

    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activity_regularizer="l2")])
    x = np.ones((4, 2), "float32")
    inner(x)
    expected = [float(loss) for loss in inner.losses]
    outer = Outer(inner)
    outer(x)
    assert [float(loss) for loss in outer.losses] == expected
    assert len(expected) == 1


def test_wrapped_loss_equals_plain_loss_in_training(make_data, compile_model):
    import tf_lottery as tfl

    def make():
        return keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(
                    5,
                    activity_regularizer="l2",
                    kernel_regularizer="l2",
                    kernel_initializer=keras.initializers.GlorotNormal(1),
                ),
                keras.layers.Dense(3, kernel_initializer=keras.initializers.GlorotNormal(2)),
            ]
        )

    x, y = make_data()
    histories = [
        compile_model(model).fit(x, y, epochs=3, shuffle=False, verbose=0).history["loss"]
        for model in (make(), tfl.sparsify(make()))
    ]
    np.testing.assert_allclose(*histories, rtol=1e-5)


def test_layers_that_save_memory_train_as_others(make_data):
    import tf_lottery as tfl

    x, y = make_data()
    kernels = []
    for scope in (contextlib.nullcontext(), keras.RematScope()):
        with scope:
            first = keras.layers.Dense(4, kernel_initializer=keras.initializers.GlorotNormal(1))
            second = keras.layers.Dense(1, kernel_initializer=keras.initializers.GlorotNormal(2))
        sparse = tfl.sparsify(keras.Sequential([keras.Input((6,)), first, second]), sparsity=0.5)
        # Stored values of pruned weights must have no effect on gradients either.
        second.kernel.assign(np.ones((4, 1)))
        sparse.compile("sgd", "mse", run_eagerly=True)
        sparse.train_on_batch(x, y)
        kernels.append(sparse.get_kernels().values())
    for plain, saving in zip(*kernels, strict=True):
        np.testing.assert_allclose(saving, plain, rtol=1e-5)


def test_unbuilt_layer_is_refused():
    with pytest.raises(ValueError, match="`layer` must be built.*Received: 'unbuilt'"):
        functional_call(keras.layers.Dense(2, name="unbuilt"), [], np.ones((1, 2)))
