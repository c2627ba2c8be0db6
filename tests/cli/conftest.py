"""The command, run in this process, and files for it."""

import pytest

import tf_lottery as tfl
import tf_lottery_cli as cli


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Starts without a log level, as a new user does, and restores what the command sets."""
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")


@pytest.fixture
def command(capsys):
    """Function of arguments to exit code, standard output and standard error output."""

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
    """Function of arguments to the one line that the command refuses them with."""

    def run(*arguments):
        code, out, err = command(*arguments)
        assert (code, out) == (2, "")
        assert err.endswith("\n") and err.count("\n") == 1, err
        assert err.startswith("tf-lottery")
        return err

    return run


@pytest.fixture
def files(tmp_path, make_model):
    """Paths of a sparse model, the same stripped, and its ticket, which are 75% sparse."""
    sparse = tfl.sparsify(make_model(), sparsity=0.75)
    sparse.save(tmp_path / "sparse.keras")
    tfl.Ticket.from_model(sparse, level=3).save(tmp_path / "ticket.npz")
    tfl.strip(sparse).save(tmp_path / "plain.keras")
    return {path.stem: path for path in tmp_path.iterdir()}


@pytest.fixture
def contents():
    """Function of a folder to the bytes of all files in it."""

    def read(folder):
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return read
