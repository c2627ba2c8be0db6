"""The penalties of regularizers, which count the weights that are kept."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tf_lottery as tfl
from tf_lottery.layers.penalties import penalizing

pytestmark = pytest.mark.backend


def make():
    l2 = keras.regularizers.L2(0.1)
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, "relu", kernel_regularizer=l2, bias_regularizer=l2, name="hidden"),
            layers.Dense(3, kernel_regularizer=keras.regularizers.L1(0.1), name="output"),
        ]
    )


def compiled(model):
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, 4)).astype("float32"), rng.normal(size=(8, 3)).astype("float32")


def move_pruned(sparse):
    """Gives the pruned weights and biases other values than zero, as momentum does."""
    weights = [*sparse.wrapper.kernels, *sparse.wrapper.companions]
    masks = [*sparse.get_masks().values(), *sparse.wrapper._companion_masks()]
    for weight, mask in zip(weights, masks, strict=True):
        weight.assign(np.where(mask, ops.convert_to_numpy(weight), 3.0))


@pytest.mark.parametrize("pattern", ["unstructured", "channel"])
def test_the_loss_is_that_of_the_stripped_model(pattern):
    sparse = compiled(tfl.sparsify(make(), 0.5, pattern=pattern))
    move_pruned(sparse)
    x, y = data()
    loss = sparse.evaluate(x, y, verbose=0)
    penalties = sum(float(penalty) for penalty in sparse.losses)
    history = sparse.fit(x, y, batch_size=8, verbose=0).history
    assert history["loss"] == [pytest.approx(loss, rel=1e-5)]
    plain = compiled(tfl.strip(compiled(tfl.sparsify(make(), 0.5, pattern=pattern))))
    assert plain.evaluate(x, y, verbose=0) == pytest.approx(loss, rel=1e-5)
    assert sum(float(penalty) for penalty in plain.losses) == pytest.approx(penalties, rel=1e-5)


def test_a_step_leaves_pruned_weights_alone():
    sparse = compiled(tfl.sparsify(make(), 0.5))
    move_pruned(sparse)
    before = [ops.convert_to_numpy(kernel).copy() for kernel in sparse.wrapper.kernels]
    sparse.train_on_batch(*data())
    for kernel, old, mask in zip(
        sparse.wrapper.kernels, before, sparse.get_masks().values(), strict=True
    ):
        changed = ops.convert_to_numpy(kernel) != old
        assert changed[mask].any() and not changed[~mask].any()


def test_gates_do_not_change_the_penalty():
    penalties = [float(penalty) for penalty in make().losses]
    sparse = tfl.sparsify(make(), gate=tfl.SoftGate(rescale=False))
    assert [float(penalty) for penalty in sparse.losses] == pytest.approx(penalties)


def test_regularizers_are_put_back_after_an_error():
    layer = layers.Dense(2, kernel_regularizer="l2")
    layer.build((None, 3))
    before = layer.kernel.regularizer
    with pytest.raises(RuntimeError), penalizing([(layer.kernel, None), (layer.bias, None)]):
        assert layer.kernel.regularizer is not before
        # Keras 3.12 to 3.14 refuse others.
        assert isinstance(layer.kernel.regularizer, keras.regularizers.Regularizer)
        assert layer.bias.regularizer is None
        raise RuntimeError
    assert layer.kernel.regularizer is before
