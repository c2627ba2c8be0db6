"""Shows that a new kind of mask learning takes one `Selection` and, if needed, a callback."""

import keras
import numpy as np
import pytest
from keras import ops

import tf_lottery as tfl
from tf_lottery.layers.masked import masked_layers
from tf_lottery.layers.variables import add_like


@keras.saving.register_keras_serializable("tests")
class SoftThresholds(tfl.layers.Selection):
    """Learns thresholds: `sign(w) * max(|w| - threshold, 0)` (arXiv:2002.03231, equation 4)."""

    kind = "thresholds"
    is_soft = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.thresholds = []

    def create_variables(self, kernels):
        start = keras.initializers.Constant(0.1)
        self.thresholds = [
            self.add_weight(shape=(), initializer=start, name=f"threshold_{i}")
            for i in range(len(kernels))
        ]

    def replace(self, values, training):
        pairs = zip(values, self.thresholds, strict=True)
        return [ops.sign(w) * ops.relu(ops.abs(w) - t.value) for w, t in pairs]

    def settled(self, kernels):
        return [
            ops.convert_to_numpy(array)
            for array in self.replace([kernel.value for kernel in kernels], False)
        ]

    def kept(self, kernels):
        return [array != 0 for array in self.settled(kernels)]

    def commit(self, kernels):
        for threshold in self.thresholds:
            threshold.assign(0.0)


class RaiseThresholds(tfl.callbacks.SparsityCallback):
    """Increases all thresholds after every step."""

    def next_step(self):
        return self.step + 1

    def on_step(self):
        for threshold in self.model.selection.thresholds:
            threshold.assign(ops.convert_to_numpy(threshold) + 0.02)


@pytest.fixture
def learned(make_model, compile_model):
    model = make_model()
    return compile_model(tfl.SparseModel(model, selection=SoftThresholds()), run_eagerly=True)


def test_new_selection_trains_and_prunes(learned, make_data):
    x, y = make_data()
    before = learned.sparsity
    learned.fit(x, y, batch_size=8, verbose=0, callbacks=[RaiseThresholds()])
    assert learned.sparsity > before > 0
    kernels = learned.get_kernels()
    thresholds = map(float, learned.selection.thresholds)
    for (name, kernel), threshold in zip(learned.kernels.items(), thresholds, strict=True):
        weights = ops.convert_to_numpy(kernel)
        expected = np.sign(weights) * np.maximum(np.abs(weights) - threshold, 0)
        np.testing.assert_allclose(kernels[name], expected, atol=1e-7)


@pytest.mark.backend
def test_new_selection_is_saved_restored_and_settled(learned, make_data, tmp_path):
    x, y = make_data()
    start = tfl.Snapshot(learned)
    outputs = learned.predict(x, verbose=0)
    learned.fit(x, y, batch_size=8, verbose=0)
    learned.save(tmp_path / "learned.keras")
    loaded = keras.saving.load_model(tmp_path / "learned.keras")
    trained = learned.predict(x, verbose=0)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), trained)
    np.testing.assert_allclose(tfl.strip(loaded).predict(x, verbose=0), trained, atol=1e-6)
    assert loaded.sparsity == pytest.approx(learned.sparsity)
    start.restore(learned)
    np.testing.assert_array_equal(learned.predict(x, verbose=0), outputs)


@pytest.mark.backend
def test_variables_of_parts_have_the_shape_of_the_kernel():
    layer = keras.layers.Layer()
    kernel = keras.Variable(np.ones((3, 2)))
    layer.mask = add_like(layer, kernel, "mask", "ones", dtype="bool", trainable=False)
    assert (tuple(layer.mask.shape), layer.mask.dtype) == ((3, 2), "bool")
    assert not layer.mask.trainable


@pytest.mark.backend
def test_parts_come_in_the_order_of_what_they_do(learned):
    memory, tweak = tfl.layers.GrowthMemory(decay=0.0), tfl.layers.Part(name="tweak")
    learned.add_part(memory)
    learned.add_part(tweak)
    assert learned.parts == [learned.selection, tweak, memory]
    # The dense gradients of growth must be the optimizer's last variables.
    assert [v.path for v in learned.weights[-len(memory.weights) :]] == [
        v.path for v in memory.weights
    ]
    learned.remove_part(tweak)
    assert learned.parts == [learned.selection, memory]
    assert learned.growth is memory


def test_only_parts_that_were_added_can_be_removed(make_model):
    sparse = tfl.sparsify(make_model())
    for part in (sparse.selection, tfl.layers.GrowthMemory()):
        with pytest.raises(ValueError, match="`part` must be one of the parts .*Received"):
            sparse.remove_part(part)
    assert sparse.parts == [sparse.selection]


def test_a_part_that_is_added_before_building_gets_its_variables_once():
    masked = tfl.layers.Masked(keras.layers.Dense(3))
    memory = tfl.layers.GrowthMemory(decay=0.9)
    masked.add_part(memory)
    assert memory.variables == []
    masked.build((None, 4))
    assert [tuple(v.shape) for v in memory.variables] == [(4, 3), (4, 3)]


@pytest.mark.backend
def test_wrappers_inside_parts_are_not_those_of_the_model(make_model):
    student, teacher = tfl.sparsify(make_model()), tfl.sparsify(make_model())
    tfl.retrain.distill(student, teacher)
    assert masked_layers(student) == [student.wrapper]
