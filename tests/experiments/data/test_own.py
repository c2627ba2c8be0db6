import numpy as np
import pytest

from tf_lottery.experiments.data import hold_out, load_own


@pytest.fixture
def saved(tmp_path):
    """Returns a function that saves arrays as a `.npz` file and returns its path."""

    def save(name="own", size=40, **arrays):
        x = np.arange(2.0 * size).reshape(size, 2)
        arrays = {"x": x, "y": np.arange(size) % 3, **arrays}
        np.savez(tmp_path / f"{name}.npz", **arrays)
        return str(tmp_path / f"{name}.npz")

    return save


def test_a_tenth_each_is_held_out(saved):
    data, again = load_own(saved()), load_own(saved())
    sizes = [len(y) for _, y in (data.train, data.validation, data.test)]
    assert (sizes, data.num_classes, data.input_shape) == ([32, 4, 4], 3, (2,))
    # The test comes first in the order of the generator, then the same for what is left.
    order = np.random.default_rng(0).permutation(40)
    assert (data.test[0][:, 0] / 2).tolist() == order[:4].tolist()
    rest = order[4:][np.random.default_rng(0).permutation(36)]
    assert (data.validation[0][:, 0] / 2).tolist() == rest[:4].tolist()
    assert (data.train[0][:, 0] / 2).tolist() == rest[4:].tolist()
    assert data.settings == again.settings == {"data": "own.npz", "data_digest": data.digest}
    other = load_own(saved(y=np.arange(40) % 2))
    assert other.digest != data.digest and other.num_classes == 2


def test_parts_that_are_given(saved):
    first, second = saved(), saved("other", size=5)
    data = load_own(first, validation=second, test=second, normalize=True)
    assert [len(y) for _, y in (data.train, data.validation, data.test)] == [40, 5, 5]
    np.testing.assert_allclose(data.train[0].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(data.train[0].std(0), 1, rtol=1e-5)
    assert data.settings["normalize"] and data.train[0].dtype == "float32"
    strings = saved("names", y=np.array(["a", "b"] * 20))
    with pytest.raises(ValueError, match="classes 'a', 'b', those of the training.*'c'"):
        load_own(strings, test=saved("c", size=2, y=np.array(["a", "c"])))
    assert load_own(strings, test=saved("n", size=2, y=np.array([0, 1]))).test[1].tolist() == [0, 1]
    with pytest.raises(ValueError, match="labels below 2, .*Received: 2 in the test data"):
        load_own(strings, test=saved("m", size=2, y=np.array([0, 2])))


def test_a_test_without_a_validation_stays_the_test(tmp_path):
    image_files = pytest.importorskip("PIL.Image")
    for part, count in (("train", 10), ("test", 3)):
        for name in ("cat", "dog"):
            (tmp_path / "photos" / part / name).mkdir(parents=True)
            for i in range(count):
                image = image_files.new("L", (2, 2))
                image.save(tmp_path / "photos" / part / name / f"{i}.png")
    data = load_own(tmp_path / "photos")
    assert [len(y) for _, y in (data.train, data.validation, data.test)] == [18, 2, 6]


@pytest.mark.parametrize("y", [np.eye(3)[np.arange(40) % 3], np.arange(40.0)[:, None] % 3])
def test_labels_become_class_numbers(saved, y):
    data = load_own(saved(y=y))
    assert data.train[1].dtype == "int32" and data.train[1].ndim == 1
    np.testing.assert_array_equal(data.train[1], (data.train[0][:, 0] / 2).astype(int) % 3)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.linspace(0, 1, 40)}, "class numbers, 0 and up.*from 0.0 to 1.0"),
        ({"y": np.arange(40) - 1}, "from -1 to 38"),
        ({"y": np.arange(39)}, r"a label for every example.*\(40, 2\).*\(39,\)"),
        ({"x": np.full((40, 2), np.nan)}, "finite.*in the train data, first in example 0"),
        ({"sample_weight": np.ones(40)}, "no sample weights"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, "at least one"),
        ({"x": np.zeros((1, 2)), "y": np.zeros(1)}, "more examples, of which 1 are held out"),
    ],
)
def test_what_is_refused(saved, arrays, message):
    with pytest.raises(ValueError, match=message):
        load_own(saved(**arrays))


def test_held_out_examples_keep_their_structure():
    part = {"a": np.arange(6), "b": np.ones((6, 2))}, np.arange(6)
    rest, held_out = hold_out(part, 2, seed=1)
    order = np.random.default_rng(1).permutation(6)
    assert held_out[0]["a"].tolist() == held_out[1].tolist() == order[:2].tolist()
    assert rest[0]["b"].shape == (4, 2)
