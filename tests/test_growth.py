import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery import growth
from tf_lottery.layers import GrowthMemory
from tf_lottery.training import Training

pytestmark = pytest.mark.backend


@pytest.fixture
def training():
    """The training of a dense layer with three of six weights kept, after a momentum step."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False)])
    sparse = tfl.sparsify(model)
    sparse.compile(keras.optimizers.SGD(0.5, momentum=0.9), "mean_squared_error")
    [(path, kernel)] = sparse.kernels.items()
    kernel.assign([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    sparse.set_masks({path: np.array([[True, False], [False, True], [True, False]])})
    sparse.optimizer.build(sparse.trainable_variables)
    for slot in sparse.optimizer.variables:
        if slot.name.endswith("momentum"):
            slot.assign(np.full(slot.shape, 7.0))
    return Training.of(sparse)


MOVED = np.array([[True, True], [False, False], [True, False]])


def test_new_connections_start_from_zero_and_pruned_ones_rest(training):
    [path] = training.model.kernels
    assert growth.move_connections(training, {path: MOVED}) == 1
    expected = [[1.0, 0.0], [0.0, 0.0], [5.0, 0.0]]
    assert training.model.get_kernels()[path].tolist() == expected
    [momentum] = [v for v in training.optimizer.variables if v.name.endswith("momentum")]
    assert np.array(momentum).tolist() == [[7.0, 0.0], [0.0, 0.0], [7.0, 0.0]]


def test_new_connections_can_start_from_values(training):
    [path] = training.model.kernels
    values = np.array([[-1.0, -2.0], [-3.0, -4.0], [-5.0, -6.0]])
    growth.move_connections(training, {path: MOVED}, {path: values})
    expected = [[1.0, -2.0], [0.0, 0.0], [5.0, 0.0]]
    assert training.model.get_kernels()[path].tolist() == expected


def test_step_of_gradient_descent(training):
    assert growth.descent_step(training, np.array([1.0, -4.0])).tolist() == [-0.5, 2.0]


def test_gradients_are_collected_between_start_and_stop(training):
    growth.prepare_collecting(training, decay=0.0)
    growth.start_collecting(training)
    assert len(training.trained_variables) == 2
    with pytest.raises(ValueError, match="one method that moves connections"):
        growth.start_collecting(training)
    x, y = np.array([[1.0, 0.0, 2.0]], "float32"), np.zeros((1, 2), "float32")
    training.model.fit(x, y, verbose=0)
    # The mean of the outputs 1 * 1 + 2 * 5 and 0.
    [gradient] = growth.collected_gradients(training.model).values()
    np.testing.assert_allclose(gradient, [[11.0, 0.0], [0.0, 0.0], [22.0, 0.0]])
    growth.stop_collecting(training)
    assert len(training.trained_variables) == 1
    assert list(growth.collected_gradients(training.model).values()) == [None]


def test_training_functions_are_used_again_until_the_model_is_compiled(training):
    def collecting_function():
        growth.prepare_collecting(training, decay=0.0)
        training.fitted.make_train_function()
        growth.start_collecting(training)
        return training.fitted.train_function

    first = collecting_function()
    growth.stop_collecting(training)
    usual = training.fitted.train_function
    assert usual is not None
    assert usual is not first
    assert collecting_function() is first
    growth.stop_collecting(training)
    assert training.fitted.train_function is usual
    training.fitted.compile(training.optimizer, "mean_squared_error")
    assert collecting_function() is not first


def test_function_that_another_callback_has_made_is_forgotten(training):
    growth.prepare_collecting(training, decay=0.0)
    training.fitted.make_train_function()
    growth.start_collecting(training)
    training.make_train_function()
    growth.stop_collecting(training)
    assert training.fitted.train_function is None


def test_models_with_gates_do_not_grow(make_model):
    sparse = tfl.sparsify(make_model(), gate=tfl.SoftGate())
    sparse.compile("sgd", "mse")
    with pytest.raises(ValueError, match="must have masks.*a model with Gates"):
        growth.prepare_collecting(Training.of(sparse))


def test_memory_of_another_accumulation_is_made_anew(training):
    growth.prepare_collecting(training, decay=0.5)
    first = training.model.growth
    growth.prepare_collecting(training, decay=0.5)
    assert training.model.growth is first
    assert first.steps == 1
    training.model.compile(keras.optimizers.SGD(gradient_accumulation_steps=3), "mse")
    growth.prepare_collecting(Training.of(training.model), decay=0.5)
    assert training.model.growth is not first
    assert training.model.growth.steps == 3
    assert GrowthMemory.from_config(training.model.growth.get_config()).steps == 3
