import dataclasses
import errno
import pathlib

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.compression.search import Search

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow exports"
)

TINY = {"structures": ("unstructured",), "sparsities": (0.5,), "precisions": ("float32",)}


@pytest.fixture
def data(make_data):
    x, y = make_data(size=64)
    return (x[:40], y[:40]), (x[40:], y[40:])


@pytest.fixture
def compress(make_model, data, tmp_path):
    """Returns a function that compresses a small model, with some arguments changed."""

    def run(model=None, train=data[0], validation=data[1], **options):
        defaults = {"budget": {"bytes": 20_000}, "max_drop": 1.0, "directory": tmp_path / "out"}
        model = make_model() if model is None else model
        options = {**defaults, **TINY, "runs": 1, "verbose": 0, **options}
        return tfl.compress(model, train, validation, **options)

    return run


def contents(folder):
    return {path: path.read_bytes() for path in pathlib.Path(folder).iterdir()}


def test_two_cells(compress, make_model, data):
    model = make_model()
    before = [w.copy() for w in model.get_weights()]
    result = compress(model)
    assert [f.name for f in result.files] == [
        "dense_float32.tflite",
        "unstructured_50_float32.tflite",
    ]
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    x, y = data[1]
    expected = float((model.predict(x, verbose=0).argmax(1) == y).mean())
    assert result.dense_accuracy == result.files[0].accuracy == expected
    network = keras.saving.load_model(f"{result.directory}/unstructured_50.keras")
    assert tfl.summary(network).sparsity == 0.5
    pruned = float((network.predict(x, verbose=0).argmax(1) == y).mean())
    assert result.files[1].accuracy == pruned
    assert result.files[1].flops == 0.5 * result.files[0].flops
    made = contents(result.directory)
    assert compress().to_dict() == result.to_dict()
    assert contents(result.directory) == made


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": (np.zeros((9, 5)), np.zeros(9))}, r"`train` .*\(9, 5\)"),
        ({"train": np.ones((9, 6))}, "`train` must have examples that differ"),
        ({"train": np.ones((0, 6))}, "`train` .* at least one"),
        ({"validation": (np.zeros((9, 6)), np.full(9, 3))}, "labels from 3 to 3"),
        ({"budget": {"kilobytes": 3}}, "`budget` must be one of"),
        ({"max_drop": -0.1}, "`max_drop`"),
        ({"max_drop": 2}, "0.02 for two points. Received: max_drop=2"),
        ({"finetune": 1}, "`model` must be compiled .* without a loss"),
    ],
)
def test_refused(compress, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        compress(**options)
    assert not (tmp_path / "out").exists()


def test_several_outputs_are_refused(compress):
    x = keras.Input((6,))
    model = keras.Model(x, [keras.layers.Dense(3)(x), keras.layers.Dense(3)(x)], name="twins")
    with pytest.raises(ValueError, match="one output, by .*'twins' with 2 outputs"):
        compress(model)


def test_predicted_numbers(compress, make_model, data, monkeypatch):
    monkeypatch.setattr(Search, "run", lambda self: None)
    (x, _), (x_val, _) = data
    model = make_model()
    model.compile("sgd", "mse")
    y, y_val = (values[:, :3] + 1 for values in (x, x_val))
    result = compress(model, (x, y), (x_val, y_val), finetune=1)
    errors = ((model.predict(x_val, verbose=0) - y_val) ** 2).mean()
    assert result.dense_accuracy == pytest.approx(1 - errors / y_val.var(axis=0).mean(), rel=1e-4)
    with pytest.raises(ValueError, match="`train` must have finite numbers in the shape"):
        compress(model, (x, y[:, :2]), (x_val, y_val), finetune=1)


def test_nan_outputs_are_refused(compress, make_model):
    model = make_model()
    model.layers[0].bias.assign(np.full(8, np.nan))
    with pytest.raises(ValueError, match="must have finite outputs"):
        compress(model)


def test_another_run_in_the_folder_is_refused(compress, monkeypatch):
    monkeypatch.setattr(Search, "run", lambda self: None)
    compress()
    with pytest.raises(ValueError, match="max_drop=1.0 instead of 0.5"):
        compress(max_drop=0.5)


def test_another_model_or_data_in_the_folder_are_refused(compress, make_model, data, monkeypatch):
    monkeypatch.setattr(Search, "run", lambda self: None)
    compress()
    model = make_model()
    model.layers[0].activation = keras.activations.tanh
    x, y = data[1]
    compiled = make_model()
    compiled.compile("sgd", "mse")
    for changed, name in (
        ({"model": model}, "model"),
        ({"validation": (x, 1 - np.minimum(y, 1))}, "validation"),
        ({"model": compiled}, r"optimizer=None instead of \S+, loss"),
    ):
        with pytest.raises(ValueError, match=f"a run with {name}=\\S+ instead of [^=]*$"):
            compress(**changed)


def test_fresh_deletes_no_other_files(compress, make_file, monkeypatch, tmp_path):
    monkeypatch.setattr(Search, "run", lambda self: None)
    out = tmp_path / "out"
    compress()
    own, made = ("model.tflite", "model.keras"), ("unstructured_50.keras", "dense_int8.tflite")
    for name in (*own, *made):
        (out / name).write_bytes(b"0")
    with pytest.raises(ValueError, match="`train`"):
        compress(fresh=True, train=None)
    assert (out / "dense_int8.tflite").exists()
    compress(fresh=True, max_drop=0.5)
    assert all((out / name).exists() for name in own)
    assert not any((out / name).exists() for name in made)


def test_numbers_of_numpy(compress, monkeypatch):
    monkeypatch.setattr(Search, "run", lambda self: None)
    numbers = {"seed": np.int64(1), "max_drop": np.float32(1), "calibration": np.int32(9)}
    result = compress(budget={"bytes": np.int64(20_000)}, **numbers)
    assert result.budget == {"bytes": 20_000} and compress(seed=1, calibration=9) == result


def test_flops_that_are_not_counted(compress, make_model, monkeypatch):
    monkeypatch.setattr(Search, "run", lambda self: None)
    report = dataclasses.replace(tfl.flops(make_model()), not_counted={"a/scale": "no rule"})
    monkeypatch.setattr("tf_lottery.compression._compress.flops", lambda model: report)
    with pytest.warns(UserWarning, match=r"1 weights, such as 'a/scale' \(no rule\)"):
        compress(budget={"flops": 1000})


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "stopped"), [(KeyboardInterrupt(), "interrupted"), (FULL, "No space left")]
)
def test_what_was_found_is_kept(compress, make_file, monkeypatch, error, stopped):
    def run(self):
        file = make_file("dense", 0.9, 100)
        (self.task.folder / file.name).write_bytes(b"0")
        self.record.add_file(file)
        raise error

    monkeypatch.setattr(Search, "run", run)
    with pytest.warns(UserWarning, match="ended early"):
        result = compress()
    assert stopped in result.stopped
    assert [f.name for f in result.files] == ["dense.tflite"]
    again = dataclasses.replace(result, stopped="")
    monkeypatch.setattr(Search, "run", lambda self: None)
    assert compress().to_dict() == again.to_dict()


def test_nothing_found_raises(compress, monkeypatch):
    def run(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "run", run)
    with pytest.raises(KeyboardInterrupt):
        compress()
