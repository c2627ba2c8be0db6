"""Prints results, and hides the log messages of TensorFlow."""

import contextlib
import gc
import logging
import os
import re
import sys
import tempfile

_LOG_MESSAGE = re.compile(r"[IW]\d{4} |WARNING: All log messages |To enable the following")
_MAX_CHARACTERS = 600


def one_line(error):
    """Returns an exception's message without line breaks, shortened if it is a long one.

    Args:
        error: An exception.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]} ..."


def import_keras():
    """Imports Keras without the messages that TensorFlow logs, and returns it.

    The log level is not changed if the user has set `TF_CPP_MIN_LOG_LEVEL`.

    Raises:
        ImportError: If Keras' backend is not installed.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return _keras()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # A Ctrl-C during a callback of the garbage collector would be lost.
    gc.disable()
    try:
        with _without_log_messages():
            keras = _keras()
            # Keras imports it anyway to save and load models, whatever its backend.
            with contextlib.suppress(ImportError):
                import tensorflow  # noqa: F401
    finally:
        gc.enable()
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return keras


def _keras():
    try:
        import keras
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{error.name} must be installed for Keras, or KERAS_BACKEND set to another backend: "
            '`pip install "tf_lottery[tensorflow]"`'
        ) from error
    return keras


class Output:
    """What a command prints: progress and notes, and its result.

    With `--json` the result alone is printed on standard output, as JSON, and the rest on standard
    error. With `--quiet` there is only the result.

    Args:
        args: The parsed arguments of `add_output_options`.

    Attributes:
        notes: A `rich.console.Console` for notes.
        console: A `rich.console.Console` for a result that is no JSON.
    """

    def __init__(self, args):
        from rich.console import Console

        self.as_json, self.quiet = args.json, args.quiet
        self.notes = Console(markup=False, stderr=args.json, quiet=args.quiet)
        self.console = Console(markup=False)

    @property
    def verbose(self):
        """What `fit` takes: a bar in a terminal, a line per epoch elsewhere, 0 if quiet."""
        if self.quiet:
            return 0
        # Keras' bar is made of control characters, which files and pipes would keep.
        return 1 if (sys.stderr if self.as_json else sys.stdout).isatty() else 2

    def note(self, text):
        """Prints a line that is no part of the result."""
        self.notes.print(text, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def working(self, folder):
        """Prints progress where it belongs, and says if the run had finished before.

        Args:
            folder: The folder of the run.
        """
        has_finished = os.path.exists(os.path.join(folder, "results.json"))
        aside = contextlib.redirect_stdout(sys.stderr) if self.as_json else contextlib.nullcontext()
        with aside:
            yield
        if has_finished:
            self.note(
                f"The run in {folder} had finished before: nothing was trained (--fresh starts "
                "anew)"
            )


@contextlib.contextmanager
def drawing(command, name):
    """Draws a picture, without which the results are complete too: says if it cannot be drawn.

    Args:
        command: String, the subcommand.
        name: String, the file.
    """
    try:
        yield
    except (ImportError, OSError) as error:
        print(f"tf-lottery {command}: no {name}: {one_line(error)}", file=sys.stderr)


def print_run(console, folder, results, note=None):
    """Prints the results of a training and the files in its folder.

    Args:
        console: A `rich.console.Console`.
        folder: String.
        results: Dict as `run_training` returns it.
        note: String, a line of the command's own. Defaults to `None`.
    """
    from tf_lottery.analysis import report
    from tf_lottery.experiments import model_file

    console.print(report.summary(model_file.load_model(f"{folder}/model.keras")))
    if note:
        console.print(note, highlight=False, soft_wrap=True)
    console.print(
        f"{_achieved(results)} at {results['density']:.2%} density\n"
        f"In {folder}: model.keras (plain Keras), ticket.npz, results.json\n"
        f"Next: tf-lottery export {folder}/model.keras",
        highlight=False,
        soft_wrap=True,
    )


def _achieved(results):
    text = f"Test accuracy {results['test_accuracy']:.2%}"
    if (bits := results.get("test_bits_per_character")) is not None:
        text += f", {bits:.3f} bits per character"
    return text


@contextlib.contextmanager
def _without_log_messages():
    """Drops known log messages from standard error, and prints all else afterwards.

    TensorFlow writes them from C++ during its import, before its log level takes effect.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            log.seek(0)
            for line in log.read().decode(errors="replace").splitlines(keepends=True):
                if not _LOG_MESSAGE.match(line):
                    sys.stderr.write(line)
