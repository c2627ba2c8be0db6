import contextlib
import random

import h5py
import keras
import numpy as np
import pytest

import tf_lottery as tfl

pytestmark = pytest.mark.backend


def test_sparsify_starts_dense_and_predicts_the_same(make_model, make_data):
    plain = make_model()
    x, _ = make_data()
    sparse = tfl.sparsify(plain)
    assert sparse.density == 1.0
    np.testing.assert_array_equal(sparse(x), plain(x))


def test_strip_gives_the_users_model_with_zeros(make_model, make_data):
    plain = make_model()
    sparse = tfl.sparsify(plain, sparsity=0.5)
    predictions = sparse(make_data()[0])
    assert tfl.strip(sparse) is plain
    np.testing.assert_array_equal(plain(make_data()[0]), predictions)
    assert tfl.summary(plain).sparsity == 0.5


def random_states():
    """Returns the random states that `keras.utils.set_random_seed` sets."""
    return random.getstate(), np.random.get_state()[1].tolist()


@pytest.mark.parametrize("fails", [False, True])
def test_lent_model_computes_by_itself_and_gets_its_kernels_back(fails, make_model, make_data):
    plain = make_model()
    sparse, (x, _) = tfl.sparsify(plain, 0.5), make_data()
    for kernel in sparse.kernels.values():
        kernel.assign(kernel + 1.0)
    expected, before = keras.ops.convert_to_numpy(sparse(x)), plain.get_weights()
    states = random_states()
    error = pytest.raises(ZeroDivisionError) if fails else contextlib.nullcontext()
    with error, sparse.settled() as lent:
        assert lent is plain
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(lent(x)), expected)
        keras.layers.Dense(2).build((None, 3))
        1 / (not fails)
    assert random_states() == states
    for found, weight in zip(plain.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, weight)


def test_set_masks_writes_zeros_and_leaves_other_kernels(make_model):
    sparse = tfl.sparsify(make_model())
    path = list(sparse.kernels)[0]
    mask = np.zeros(sparse.kernels[path].shape, bool)
    sparse.set_masks({path: mask})
    assert not np.any(keras.ops.convert_to_numpy(sparse.kernels[path]))
    assert sparse.get_masks()[list(sparse.kernels)[1]].all()


@pytest.mark.parametrize(
    "mask", [np.ones((6, 8)), np.ones((8, 6), bool), np.ones((6, 8), "int8"), [[True]]]
)
def test_masks_that_do_not_fit_are_refused_and_nothing_changes(mask, make_model):
    sparse = tfl.sparsify(make_model())
    first, second = sparse.kernels
    good = np.zeros(sparse.kernels[second].shape, bool)
    with pytest.raises(ValueError, match="boolean array of shape .*Received"):
        sparse.set_masks({second: good, first: mask})
    assert sparse.density == 1.0


def test_unknown_mask_names_are_refused(make_model):
    with pytest.raises(ValueError, match="Received: 'nowhere'"):
        tfl.sparsify(make_model()).set_masks({"nowhere": np.ones((6, 8), bool)})


@pytest.mark.parametrize("kind", ["dense", "nested", "recurrent_deep", "attention", "subclassed"])
def test_sparse_model_survives_saving(kind, make_model, make_data, tmp_path):
    sparse = tfl.sparsify(make_model(kind), sparsity=0.5)
    sparse.save(tmp_path / "sparse.keras")
    loaded = keras.saving.load_model(tmp_path / "sparse.keras")
    x, _ = make_data(kind)
    np.testing.assert_array_equal(loaded(x), sparse(x))
    assert loaded.density == sparse.density
    assert loaded.skipped == sparse.skipped
    assert loaded.name == sparse.name


def test_weights_survive_saving_alone(make_model, make_data, tmp_path):
    sparse = tfl.sparsify(make_model(), sparsity=0.5)
    sparse.save_weights(tmp_path / "sparse.weights.h5")
    other = tfl.sparsify(make_model())
    other.load_weights(tmp_path / "sparse.weights.h5")
    np.testing.assert_array_equal(other(make_data()[0]), sparse(make_data()[0]))


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="about TensorFlow's checkpoints"
)
def test_checkpoints_of_tensorflow_have_the_masks(make_model, make_data, tmp_path):
    import tensorflow as tf

    sparse, other = tfl.sparsify(make_model(), sparsity=0.5), tfl.sparsify(make_model())
    path = tf.train.Checkpoint(model=sparse).save(tmp_path / "checkpoint")
    tf.train.Checkpoint(model=other).restore(path).assert_existing_objects_matched()
    assert other.sparsity == 0.5
    np.testing.assert_array_equal(other(make_data()[0]), sparse(make_data()[0]))


def test_older_format_of_files_is_refused(make_model, tmp_path):
    with pytest.raises(ValueError, match=r"end in '.keras'.*Received: '.*model.h5'"):
        tfl.sparsify(make_model()).save(tmp_path / "model.h5")
    assert not list(tmp_path.iterdir())


def test_unbuilt_model_is_refused():
    with pytest.raises(ValueError, match="must be built.*Received: 'unbuilt'"):
        tfl.sparsify(keras.Sequential([keras.layers.Dense(3)], name="unbuilt"))


def test_model_without_kernels_is_refused():
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization()])
    with pytest.raises(ValueError, match="at least one kernel.*Received"):
        tfl.sparsify(model)


def test_sparse_model_is_not_made_sparse_again(make_model):
    with pytest.raises(ValueError, match="must not be sparse yet"):
        tfl.sparsify(tfl.sparsify(make_model()))


def test_training_step_that_would_be_ignored_is_warned_about():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

        def train_step(self, *args):
            raise AssertionError

    model = Own()
    model(np.ones((1, 3), "float32"))
    with pytest.warns(UserWarning, match=r"Own overrides \['train_step'\]"):
        tfl.sparsify(model)


def test_losses_by_output_name(make_data):
    inputs = keras.Input((6,))
    outputs = {name: keras.layers.Dense(3, name=name)(inputs) for name in ("a", "b")}
    model = tfl.sparsify(keras.Model(inputs, outputs))
    model.compile("sgd", loss={"a": "mse", "b": "mae"})
    x, _ = make_data()
    labels = np.ones((24, 3), "float32")
    model.fit(x, {"a": labels, "b": labels}, verbose=0)


def test_layer_is_not_a_model():
    with pytest.raises(ValueError, match="must be a `keras.Model`"):
        tfl.sparsify(keras.layers.Dense(3))


@pytest.mark.parametrize("function", [tfl.strip, lambda model: tfl.prune(model, 0.5)])
def test_plain_model_is_refused_where_a_sparse_one_is_needed(function, make_model):
    with pytest.raises(ValueError, match="`model` must be a `SparseModel`.*Received"):
        function(make_model())


def test_pattern_survives_saving_and_rules_what_is_pruned(make_model, tmp_path):
    sparse = tfl.sparsify(make_model("nested"), sparsity=0.5, pattern="2:4")
    sparse.save(tmp_path / "sparse.keras")
    loaded = keras.saving.load_model(tmp_path / "sparse.keras")
    assert loaded.pattern == sparse.pattern == tfl.sparsity.NM(2, 4)
    assert loaded.skipped == sparse.skipped
    assert "18 inputs" in next(iter(loaded.skipped.values()))


@pytest.mark.parametrize("version", [None, 1, 3])
def test_configurations_of_other_versions_are_refused(version, make_model):
    config = tfl.sparsify(make_model(), sparsity=0.5).get_config()
    if version is None:
        del config["wrapper"]["config"]["format"]
    else:
        config["wrapper"]["config"]["format"] = version
    with pytest.raises(ValueError, match=f"format 2 is needed. Received: .* {version or 1}, "):
        tfl.SparseModel.from_config(config)


@pytest.mark.parametrize("field", ["kernels", "skipped"])
def test_damaged_configurations_are_refused(field, make_model):
    config = tfl.sparsify(make_model("nested"), sparsity=0.5, pattern="2:4").get_config()
    damaged = config["wrapper"]["config"][field]
    if field == "kernels":
        damaged[0]["key"] = 3.5
    else:
        damaged[next(iter(damaged))] = 3.5
    with pytest.raises(ValueError, match="is missing or wrong: '3.5'"):
        tfl.SparseModel.from_config(config)


def test_matrices_of_kernels_and_back(make_model):
    sparse = tfl.sparsify(make_model("attention"), sparsity=0.5)
    kernels = sparse.get_kernels()
    matrices = sparse.to_matrices(kernels)
    assert [matrix.shape for matrix in matrices.values()] == [(6, 6)] * 4 + [(24, 3)]
    assert [matrix.shape for matrix in matrices.values()] == list(sparse.matrix_shapes.values())
    output = list(kernels)[3]
    np.testing.assert_array_equal(matrices[output][4], kernels[output][1, 1])
    for path, kernel in sparse.from_matrices(matrices).items():
        np.testing.assert_array_equal(kernel, kernels[path], strict=True)


def test_kernels_that_are_no_matrix_keep_their_shape(make_model):
    sparse = tfl.sparsify(make_model("nested"), include="depthwise")
    shapes = [kernel.shape for kernel in sparse.to_matrices(sparse.get_kernels()).values()]
    assert set(sparse.matrix_shapes.values()) == {None}
    assert shapes == [tuple(kernel.shape) for kernel in sparse.kernels.values()]


def test_model_that_no_pattern_divides_is_refused(make_model):
    with pytest.raises(ValueError, match="check `include`, `exclude` and `pattern`.*Received"):
        tfl.sparsify(make_model(), pattern="5x1")


def open_half(sparse):
    """Sets every second gate value above 0 and the others below."""
    sparse.selection.set_values(
        [np.resize([0.1, -0.1], gate.shape) for gate in sparse.selection.gates]
    )


def test_density_of_gates_is_the_share_above_zero(make_model):
    sparse = tfl.sparsify(make_model(), gate=tfl.SoftGate())
    assert (sparse.density, sparse.sparsity, sparse.has_soft_gates) == (0.0, 1.0, True)
    assert tfl.sparsify(make_model(), gate=tfl.SoftGate(0.1)).density == 1.0
    open_half(sparse)
    assert sparse.density == 0.5
    assert not tfl.sparsify(make_model()).has_soft_gates


def test_strip_of_soft_gates_leaves_the_scaled_weights_above_zero(make_model, make_data):
    plain = make_model()
    kernels = [keras.ops.convert_to_numpy(layer.kernel).copy() for layer in plain.layers]
    sparse = tfl.sparsify(plain, gate=tfl.SoftGate(-0.1))
    open_half(sparse)
    scale = np.float32(1 + np.exp(0.1))
    assert tfl.strip(sparse) is plain
    for layer, kernel in zip(plain.layers, kernels, strict=True):
        expected = kernel * scale * np.resize([True, False], kernel.shape)
        np.testing.assert_allclose(layer.kernel, expected, rtol=1e-6)
    x, _ = make_data()
    np.testing.assert_array_equal(sparse(x), plain(x))
    assert not sparse.has_soft_gates


def test_strip_of_untrained_gates_is_refused(make_model):
    plain = make_model()
    before = plain.get_weights()
    with pytest.raises(ValueError, match="`model` must have gates above 0.*Received: density 0"):
        tfl.strip(tfl.sparsify(plain, gate=tfl.SoftGate()))
    for weight, expected in zip(plain.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize("kind", ["dense", "subclassed"])
def test_model_with_gates_survives_saving(kind, make_model, make_data, compile_model, tmp_path):
    sparse = tfl.sparsify(make_model(kind), gate=tfl.SoftGate(-0.1, 0.01, True, 2.0, False))
    compile_model(sparse, keras.optimizers.AdamW(0.1, weight_decay=0.5))
    open_half(sparse)
    sparse.save(tmp_path / "sparse.keras")
    loaded = keras.saving.load_model(tmp_path / "sparse.keras")
    x, y = make_data(kind)
    np.testing.assert_array_equal(loaded(x), sparse(x))
    assert loaded.selection.gate == sparse.selection.gate
    assert loaded.density == 0.5
    for either in (sparse, loaded):
        either.fit(x, y, epochs=1, verbose=0, shuffle=False)
    for values, expected in zip(loaded.selection.values, sparse.selection.values, strict=True):
        np.testing.assert_array_equal(values, expected)


def test_settled_model_stays_settled_when_loaded(make_model, tmp_path):
    sparse = tfl.sparsify(make_model(), gate=tfl.SoftGate())
    open_half(sparse)
    tfl.strip(sparse)
    sparse.save(tmp_path / "sparse.keras")
    loaded = keras.saving.load_model(tmp_path / "sparse.keras")
    assert not loaded.has_soft_gates
    assert loaded.density == 0.5


@pytest.mark.parametrize("exclude", [False, True])
def test_weights_decay_and_gates_do_not(exclude, make_model):
    sparse = tfl.sparsify(make_model(), gate=tfl.SoftGate(0.5, penalty=0.0))
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    if exclude:
        optimizer.exclude_from_weight_decay(var_names=["kernel"])
    sparse.compile(optimizer, "mse")
    kernels = list(sparse.get_kernels().values())
    # Zero data gives no gradients.
    sparse.train_on_batch(np.zeros((2, 6)), np.zeros((2, 3)))
    assert all(np.all(values == np.float32(0.5)) for values in sparse.selection.values)
    for kernel, expected in zip(sparse.get_kernels().values(), kernels, strict=True):
        np.testing.assert_allclose(kernel, expected * (1.0 if exclude else 0.95), rtol=1e-5)


def test_gates_exclude_patterns(make_model):
    with pytest.raises(ValueError, match="`pattern` must be 'unstructured'.*Received.*2:4"):
        tfl.sparsify(make_model("nested"), pattern="2:4", gate=tfl.SoftGate())


@pytest.mark.parametrize("gate", [None, tfl.SoftGate(penalty=0.0)])
def test_metrics_are_those_of_the_sparse_model(gate, make_model, make_data, compile_model):
    x, y = make_data()
    plain = compile_model(make_model(), metrics=["accuracy"])
    plain.fit(x, y, verbose=0)
    model = compile_model(tfl.sparsify(plain, gate=gate), metrics=["accuracy"])
    found = model.evaluate(x, y, verbose=0, return_dict=True)
    logits = keras.ops.convert_to_numpy(model(x))
    picked = logits[np.arange(len(y)), y]
    expected = np.mean(np.log(np.exp(logits).sum(1)) - picked)
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert found["accuracy"] == pytest.approx(np.mean(logits.argmax(1) == y))


def test_model_with_gates_compiles_without_an_optimizer(make_model):
    model = tfl.sparsify(make_model(), gate=tfl.SoftGate())
    model.compile(optimizer=None, loss="mse")
    assert model.optimizer is None


def test_saved_weights_keep_their_places(tmp_path):
    """Keras names places by attributes of the model. Files of earlier versions have these."""
    dense = [keras.layers.Dense(5), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((4,)), dense[0], keras.layers.Dropout(0.5), dense[1]])
    tfl.sparsify(model).save_weights(tmp_path / "model.weights.h5")
    found = set()
    with h5py.File(tmp_path / "model.weights.h5") as file:
        file.visititems(lambda name, item: found.add(name) if hasattr(item, "shape") else None)
    places = ["layer/layers/dense", "layer/layers/dense_1", "parts/masks"]
    expected = {f"layers/masked/{place}/vars/{i}" for place in places for i in (0, 1)}
    assert found == {*expected, "layers/masked/vars/seed_0"}


def test_random_seeds_that_a_file_lacks_are_named(tmp_path):
    def make(*between):
        ends = keras.layers.Dense(5), keras.layers.Dense(2)
        return tfl.sparsify(keras.Sequential([keras.Input((4,)), ends[0], *between, ends[1]]))

    plain, random = make(), make(keras.layers.Dropout(0.5))
    plain.save_weights(tmp_path / "plain.weights.h5")
    with pytest.raises(ValueError, match="1 random seeds.*Received: 0 states"):
        random.load_weights(tmp_path / "plain.weights.h5")
    random.save_weights(tmp_path / "random.weights.h5")
    plain.load_weights(tmp_path / "random.weights.h5")
    x = np.ones((2, 4))
    np.testing.assert_array_equal(plain(x), random(x))
