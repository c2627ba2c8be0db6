import json

import keras
import numpy as np
import pytest

import tf_lottery as tfl


@pytest.fixture
def examples(tmp_path, make_data):
    """Path of a file with inputs and labels."""
    x, y = make_data()
    np.savez(tmp_path / "data.npz", x=x, y=y)
    return tmp_path / "data.npz"


@pytest.fixture
def trained(tmp_path, make_model):
    """Path of a dense model."""
    make_model().save(tmp_path / "dense.keras")
    return tmp_path / "dense.keras"


def test_prunes_and_repairs(command, trained, examples, tmp_path):
    code, out, err = command("prune", trained, "--data", examples, "--sparsity", 0.5)
    assert (code, err) == (0, "")
    assert "Repaired" in out and "Written" in out
    found = keras.saving.load_model(tmp_path / "dense.pruned.keras")
    assert not isinstance(found, tfl.SparseModel)
    assert tfl.summary(found).sparsity == 0.5
    assert tfl.summary(keras.saving.load_model(trained)).sparsity == 0.0


def test_options_as_json(command, trained, examples, tmp_path):
    options = ("--pattern", "2:4", "--scores", "magnitude", "--no-repair", "--json")
    out = tmp_path / "new.keras"
    arguments = ("--data", examples, "--sparsity", 0.5, "-o", out, *options)
    code, text, _ = command("prune", trained, *arguments)
    found = json.loads(text)
    assert (code, found["path"], found["repair"]) == (0, str(out), None)
    # The pattern does not divide the six inputs of the first kernel.
    assert [row["sparsity"] for row in found["summary"]["kernels"]] == [0.0, 0.5]


def test_what_is_refused(refused, trained, examples, tmp_path, contents):
    np.save(tmp_path / "empty.npy", np.zeros((0, 6), "float32"))
    before = contents(tmp_path)
    asked = ("--sparsity", 0.5)
    assert "--data" in refused("prune", trained, "--data", tmp_path / "empty.npy", *asked)
    given = ("--data", examples, *asked)
    assert "model itself" in refused("prune", trained, *given, "-o", trained)
    assert "folder" in refused("prune", trained, *given, "-o", tmp_path / "no" / "x.keras")
    assert "--pattern" in refused("prune", trained, *given, "--pattern", "rows")
    assert contents(tmp_path) == before


def test_sparsity_that_the_model_has_already(command, refused, trained, examples, tmp_path):
    given = ("--data", examples, "--scores", "magnitude")
    assert command("prune", trained, *given, "--sparsity", 0.75, "--no-repair")[0] == 0
    message = refused("prune", tmp_path / "dense.pruned.keras", *given, "--sparsity", 0.5)
    assert "--sparsity must be above 0.75, the share of zeros that the model has" in message
