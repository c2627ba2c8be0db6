import json

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery import compression
from tf_lottery.compression import CompressedFile, Compression
from tf_lottery_cli.compress import amount, percentage


@pytest.fixture
def asked(monkeypatch, make_model, make_data, tmp_path):
    """Arguments for a small model and data, and the arguments that `tfl.compress` gets."""
    given = {}

    def compress(model, train, validation, **options):
        given.update(options, model=model, train=train, validation=validation)
        folder = tmp_path / "out"
        folder.mkdir()
        (folder / "a.tflite").write_bytes(b"file")
        file = CompressedFile("a.tflite", "4x1", 0.5, False, "int8", "dense", 0.9, 4, 1.0, 2.0)
        found = (options["budget"], options["max_drop"], 0.9, 0.01, [file], {}, {})
        return Compression(str(folder), *found, given.get("stop", ""))

    monkeypatch.setattr(compression, "compress", compress)
    make_model().save(tmp_path / "model.keras")
    x, y = make_data()
    np.savez(tmp_path / "data.npz", x=x, y=y)
    files = ("compress", tmp_path / "model.keras", "--data", tmp_path / "data.npz")
    return (*files, "--out", tmp_path / "out"), given


def test_recommends_and_saves(command, asked, tmp_path):
    arguments, given = asked
    options = ("--max-bytes", "2kB", "--max-drop", "0.5%", "-o", tmp_path / "a.tflite", "--quiet")
    code, out, err = command(*arguments, *options)
    assert (code, err) == (0, "")
    assert "Take a.tflite: 4 of 2,000 bytes" in out
    assert (tmp_path / "a.tflite").read_bytes() == b"file"
    assert given["budget"] == {"bytes": 2000} and given["max_drop"] == 0.005
    assert (len(given["train"][1]), len(given["validation"][1])) == (22, 2)


def test_data_of_a_function(command, refused, asked, tmp_path, monkeypatch):
    arguments, given = asked
    monkeypatch.chdir(tmp_path)
    module = "import numpy as np\n\ndef pair():\n    return np.ones((20, 6)), np.ones(20)\n"
    (tmp_path / "own_data_of_a_test.py").write_text(module)
    options = ("--max-bytes", "2kB", "--validation-data", "own_data_of_a_test:pair", "--quiet")
    assert command(*arguments, *options)[0] == 0
    assert given["validation"][0].shape == (20, 6)
    for name, words in (("own_data_of_a_test:no", "no function 'no'"), ("nothing:a", "'nothing'")):
        assert words in refused(*arguments, "--max-bytes", "2kB", "--validation-data", name)


def test_inputs_are_split_with_their_structure(command, refused, asked, tmp_path, monkeypatch):
    arguments, given = asked
    monkeypatch.chdir(tmp_path)
    module = (
        "import numpy as np\n\ndef named():\n    return {'a': np.arange(20), 'b': np.ones(20)}, "
        "list(range(20))\n\ndef short():\n    return np.ones((20, 6)), np.ones(19)\n"
    )
    (tmp_path / "own_inputs_of_a_test.py").write_text(module)
    options = (*arguments[:2], "--max-bytes", "2kB", "--out", tmp_path / "out", "--quiet", "--data")
    assert command(*options, "own_inputs_of_a_test:named")[0] == 0
    for (inputs, labels), size in ((given["train"], 18), (given["validation"], 2)):
        assert len(labels) == size and inputs["b"].shape == (size,)
        np.testing.assert_array_equal(inputs["a"], labels)
    assert "equally many examples" in refused(*options, "own_inputs_of_a_test:short")


def test_a_sparse_model_stays_compiled(command, asked, make_model, tmp_path):
    arguments, given = asked
    sparse = tfl.sparsify(make_model())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    sparse.compile(keras.optimizers.SGD(0.25), loss)
    sparse.save(tmp_path / "model.keras")
    assert command(*arguments, "--max-bytes", "2kB", "--quiet")[0] == 0
    assert float(given["model"].optimizer.learning_rate) == 0.25
    assert given["model"].loss.get_config()["from_logits"]


def test_without_a_plot(command, asked, tmp_path, monkeypatch):
    def fail(self, path):
        raise ImportError("matplotlib must be installed")

    monkeypatch.setattr(Compression, "plot", fail)
    options = ("--max-bytes", "2kB", "-o", tmp_path / "a.tflite", "--quiet")
    code, out, err = command(*asked[0], *options)
    assert code == 0 and "Take a.tflite" in out and (tmp_path / "a.tflite").exists()
    assert err == "tf-lottery compress: no front.png: matplotlib must be installed\n"


def test_json(command, asked):
    arguments, _ = asked
    code, out, _ = command(*arguments, "--max-flops", "1k", "--max-milliseconds", 2, "--json")
    assert code == 0 and json.loads(out)["best"] == "a.tflite"


@pytest.mark.parametrize(
    ("stop", "expected", "said"),
    [
        ("interrupted", 130, "tf-lottery: interrupted"),
        ("No space left", 2, "tf-lottery compress: error: No space left"),
    ],
)
def test_ends_early(command, asked, stop, expected, said):
    arguments, given = asked
    given["stop"] = stop
    code, out, err = command(*arguments, "--max-bytes", "2kB")
    assert code == expected and "Take a.tflite" in out
    assert err == f"{said} (the same command goes on where it stopped)\n"


def test_what_is_refused(refused, asked, tmp_path):
    arguments, _ = asked
    np.savez(tmp_path / "other.npz", images=np.zeros(3), y=np.zeros(3))
    assert "must be given" in refused(*arguments)
    asked_bytes = (*arguments, "--max-bytes", "2kB")
    assert "'0.5.5%'" in refused(*asked_bytes, "--max-drop", "0.5.5%")
    assert "200kB" in refused(*arguments, "--max-bytes", "2 potatoes")
    assert "x and y" in refused(*asked_bytes, "--validation-data", tmp_path / "other.npz")
    assert ".tflite" in refused(*asked_bytes, "-o", tmp_path / "a.keras")


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [("200kB", "B", 200_000), ("1KiB", "B", 1024), ("500", "B", 500), ("1.5M", "", 1_500_000)],
)
def test_amounts(text, unit, expected):
    assert amount(unit)(text) == expected


def test_percentages():
    assert (percentage("0.5%"), percentage("0.01"), percentage("0")) == (0.005, 0.01, 0.0)
