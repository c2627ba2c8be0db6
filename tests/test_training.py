import keras
import pytest

import tf_lottery as tfl
from tf_lottery.training import Training, find_training

pytestmark = pytest.mark.backend


class Pair(keras.Model):
    """A model of two models, each with its own optimizer."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second
        self.of_first, self.of_second = keras.optimizers.Adam(), keras.optimizers.SGD()

    def train_step(self, *args):
        raise NotImplementedError


@pytest.fixture
def sparse(make_model):
    return tfl.sparsify(make_model(), 0.5)


@pytest.fixture
def pair(sparse, make_model):
    return Pair(sparse, make_model())


def test_the_model_that_is_fitted(sparse):
    sparse.compile("adam", "mse")
    for training in (find_training(sparse), find_training(sparse, sparse), Training.of(sparse)):
        assert training == Training(sparse, sparse, sparse.optimizer)


def test_a_layer_of_a_model_with_one_optimizer(sparse):
    model = keras.Sequential([keras.Input((6,)), sparse, keras.layers.Dense(2)])
    model.compile("adam", "mse")
    training = find_training(model, sparse)
    assert training.optimizer is model.optimizer
    assert len(training.trained_variables) == len(sparse.trainable_variables) + 2


def test_the_optimizer_that_was_built_for_the_weights_is_found(pair, sparse):
    pair.of_first.build(sparse.trainable_variables)
    assert find_training(pair, sparse).optimizer is pair.of_first
    assert find_training(pair, sparse).trained_variables == sparse.trainable_variables


def test_a_single_optimizer_is_found_before_its_first_step(pair, sparse):
    pair.of_second = None
    assert find_training(pair, sparse).optimizer is pair.of_first


def test_an_optimizer_that_cannot_be_found_is_asked_for(pair, sparse):
    with pytest.raises(ValueError, match=r"(?i)`optimizer` must be given.*\['adam.*', 'SGD.*'\]"):
        find_training(pair, sparse)
    assert find_training(pair, sparse, pair.of_second).optimizer is pair.of_second


def test_an_optimizer_of_other_weights_is_refused(pair, sparse):
    pair.of_second.build(pair.second.trainable_variables)
    with pytest.raises(ValueError, match="`optimizer` must train.*built for other weights"):
        find_training(pair, sparse, pair.of_second)


def test_a_frozen_model_has_no_optimizer_of_its_own(pair, sparse):
    sparse.trainable = False
    pair.of_second.build(pair.second.trainable_variables)
    assert find_training(pair, sparse, pair.of_second).optimizer is pair.of_second


def test_the_sparse_model_must_be_named(pair):
    with pytest.raises(ValueError, match="`sparse_model` must name.*sparse_model=None"):
        find_training(pair)


def test_a_sparse_model_elsewhere_is_refused(pair, make_model):
    other = tfl.sparsify(make_model(), 0.5)
    with pytest.raises(ValueError, match="`sparse_model` must be a part.*which is not"):
        find_training(pair, other)


def test_a_model_that_is_not_sparse_is_refused(pair, make_model):
    with pytest.raises(ValueError, match="`sparse_model`"):
        find_training(pair, pair.second)
    with pytest.raises(ValueError, match="SparseModel"):
        find_training(make_model())


def test_an_optimizer_is_found_once(pair, sparse):
    pair.of_second, pair.of_both = None, pair.of_first
    assert find_training(pair, sparse).optimizer is pair.of_first


def test_optimizers_inside_the_found_one_are_left_out(pair, sparse):
    pair.of_second = keras.optimizers.LossScaleOptimizer(pair.of_first)
    pair.of_second.build(sparse.trainable_variables)
    assert find_training(pair, sparse).optimizer is pair.of_second


def test_only_the_optimizer_of_the_fitted_model_is_built(pair, sparse):
    with pytest.raises(ValueError, match="`optimizer` must be built with all.*is not built"):
        Training(sparse, pair, pair.of_first).build_optimizer()
    sparse.compile("adam", "mse")
    Training.of(sparse).build_optimizer()
    assert sparse.optimizer.built
