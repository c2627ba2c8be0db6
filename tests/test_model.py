import keras
import numpy as np
import pytest

import tf_lottery as tfl


def test_sparsify_starts_dense_and_predicts_the_same(make_model, make_data):
    plain = make_model()
    x, _ = make_data()
    sparse = tfl.sparsify(plain)
    assert sparse.density == 1.0
    np.testing.assert_array_equal(sparse(x), plain(x))


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_sparsify_hits_the_sparsity(scope, make_model):
    sparse = tfl.sparsify(make_model(), sparsity=0.75, scope=scope)
    assert sum(np.count_nonzero(~m) for m in sparse.get_masks().values()) == 0.75 * (48 + 24)
    if scope == "layer":
        assert [np.count_nonzero(~m) for m in sparse.get_masks().values()] == [36, 18]


def test_sparsify_prunes_the_smallest(make_model):
    model = make_model()
    kernel = np.abs(keras.ops.convert_to_numpy(model.layers[0].kernel))
    mask = next(iter(tfl.sparsify(model, sparsity=0.5).get_masks().values()))
    assert kernel[mask].min() > kernel[~mask].max()


def test_random_masks_depend_on_the_seed(make_model):
    first, again, other = (
        tfl.sparsify(make_model(), 0.5, scores="random", seed=seed).get_masks()
        for seed in (1, 1, 2)
    )
    for path, mask in first.items():
        np.testing.assert_array_equal(mask, list(again.values())[list(first).index(path)])
    assert any(np.any(a != b) for a, b in zip(first.values(), other.values(), strict=True))


def test_prune_refines_in_any_training_loop(make_model):
    sparse = tfl.sparsify(make_model())
    before = sparse.get_masks()
    for sparsity in (0.25, 0.5):
        masks = tfl.prune(sparse, sparsity)
        assert all(np.all(before[path] >= masks[path]) for path in masks)
        assert sparse.sparsity == sparsity
        before = masks
    tfl.prune(sparse, 0.1)
    assert sparse.sparsity == 0.5


def test_emptied_kernel_is_warned_about_once(make_model):
    sparse = tfl.sparsify(make_model())
    list(sparse.kernels.values())[1].assign(np.full((8, 3), 1e-9))
    with pytest.warns(UserWarning, match=r"no weight in \['.*output/kernel'\]") as warned:
        tfl.prune(sparse, 0.5)
        tfl.prune(sparse, 0.6)
    assert sum("no weight" in str(warning.message) for warning in warned) == 1


def test_prune_compares_with_a_snapshot(make_model):
    sparse = tfl.sparsify(make_model())
    start = tfl.Snapshot(sparse)
    kernel = next(iter(sparse.kernels.values()))
    change = np.zeros(kernel.shape, "float32")
    change[2, 3] = 1.0
    kernel.assign(kernel + change)
    masks = tfl.prune(sparse, 71 / 72, scores="movement", initial=start)
    assert np.argwhere(next(iter(masks.values()))).tolist() == [[2, 3]]


def test_strip_gives_the_users_model_with_zeros(make_model, make_data):
    plain = make_model()
    sparse = tfl.sparsify(plain, sparsity=0.5)
    predictions = sparse(make_data()[0])
    assert tfl.strip(sparse) is plain
    np.testing.assert_array_equal(plain(make_data()[0]), predictions)
    assert tfl.summary(plain).sparsity == 0.5


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


@pytest.mark.parametrize("kind", ["dense", "nested", "recurrent", "attention", "subclassed"])
def test_sparse_model_survives_saving(kind, make_model, make_data, tmp_path):
    sparse = tfl.sparsify(make_model(kind), sparsity=0.5)
    sparse.save(tmp_path / "sparse.keras")
    loaded = keras.saving.load_model(tmp_path / "sparse.keras")
    x, _ = make_data(kind)
    np.testing.assert_array_equal(loaded(x), sparse(x))
    assert loaded.density == sparse.density
    assert loaded.masked.skipped == sparse.masked.skipped
    assert loaded.name == sparse.name


def test_weights_survive_saving_alone(make_model, make_data, tmp_path):
    sparse = tfl.sparsify(make_model(), sparsity=0.5)
    sparse.save_weights(tmp_path / "sparse.weights.h5")
    other = tfl.sparsify(make_model())
    other.load_weights(tmp_path / "sparse.weights.h5")
    np.testing.assert_array_equal(other(make_data()[0]), sparse(make_data()[0]))


def test_summary_of_the_model_is_printed(make_model):
    lines = []
    tfl.sparsify(make_model(), sparsity=0.5).summary(print_fn=lines.append)
    assert "hidden/kernel" in lines[0]
    assert "50.00%" in lines[0]


@pytest.mark.parametrize("sparsity", [1.0, 1.5, -0.1, "0.5", None])
def test_sparsity_outside_its_range_is_refused(sparsity, make_model):
    with pytest.raises(ValueError, match="`sparsity` must be .*Received"):
        tfl.sparsify(make_model(), sparsity)


@pytest.mark.parametrize("arguments", [{"scope": "gobal"}, {"scores": "magnitud"}, {"include": 3}])
def test_wrong_arguments_are_named(arguments, make_model):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must .*Received"):
        tfl.sparsify(make_model(), **arguments)


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
