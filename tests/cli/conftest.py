"""Runs the command in this process, and makes files for it."""

import pathlib

import keras
import pytest

import tf_lottery as tfl
import tf_lottery_cli as cli
from tf_lottery.experiments import lottery, networks


@pytest.fixture(
    scope="module",
    params=[
        "small",
        pytest.param("full", marks=pytest.mark.thorough("compiles LeNet-300-100 in every run")),
    ],
)
def size(request, small_lenet):
    """Trains as a user does (`"full"`) or faster.

    `"compiled"` replaces LeNet-300-100 by a small network. `"small"` also trains eagerly, since
    compiling a step takes longer than a dozen steps.
    """
    compile_model = keras.Model.compile

    def compile_eagerly(self, *args, **kwargs):
        compile_model(self, *args, **{**kwargs, "run_eagerly": True, "jit_compile": False})

    with pytest.MonkeyPatch.context() as patch:
        if request.param != "full":
            patch.setitem(networks.MODELS, "lenet-300-100", small_lenet)
            patch.setattr(lottery, "lenet_300_100", small_lenet)
        if request.param == "small":
            patch.setattr(keras.Model, "compile", compile_eagerly)
        yield request.param


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Starts without a log level, as for a new user, and restores what the command sets."""
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")


@pytest.fixture
def command(capsys):
    """Returns a function: runs arguments; returns exit code, standard output, standard error."""

    def run(*arguments):
        capsys.readouterr()
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def refused(command):
    """Returns a function of arguments that the command refuses; it returns the error line."""

    def run(*arguments):
        code, out, err = command(*arguments)
        assert (code, out) == (2, "")
        assert err.endswith("\n") and err.count("\n") == 1, err
        assert err.startswith("tf-lottery")
        return err

    return run


@pytest.fixture
def files(tmp_path, make_model):
    """Paths of a 75% sparse model, its stripped model and its ticket."""
    sparse = tfl.sparsify(make_model(), sparsity=0.75)
    sparse.save(tmp_path / "sparse.keras")
    tfl.Ticket.from_model(sparse, level=3).save(tmp_path / "ticket.npz")
    tfl.strip(sparse).save(tmp_path / "plain.keras")
    return {path.stem: path for path in tmp_path.iterdir()}


@pytest.fixture
def empty_files(tmp_path, monkeypatch):
    """Returns a function that makes empty files, of paths relative to a new working folder."""

    def make(*paths):
        monkeypatch.chdir(tmp_path)
        for path in map(pathlib.Path, paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return make


@pytest.fixture
def contents():
    """Returns a function that reads all files in a folder as bytes."""

    def read(folder):
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return read
