"""Failing exports raise a clear error, leave no partial file and keep the old file."""

import errno
import os
import pathlib
import signal
import threading
import time

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery.export import (
    ExportError,
    conversion,
    export_tflite,
    making,
    quantization,
    verification,
)
from tf_lottery.export.settings import Settings

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TFLite's converter needs TensorFlow"
)


@pytest.fixture
def sparse(pruned):
    kernel = pruned((64, 32), 0.9)
    model = keras.Sequential([keras.Input((64,)), layers.Dense(32, name="only")])
    model.set_weights([kernel, np.linspace(-0.1, 0.1, 32)])
    return tfl.sparsify(model, sparsity=0.9)


@pytest.fixture
def content(sparse, dense_file):
    """The file that the converter makes from the model."""
    return dense_file(sparse.model.get_weights()[0])


@pytest.fixture
def fast_convert(content, monkeypatch):
    monkeypatch.setattr("tf_lottery.export.making.convert", lambda *_: content)


@pytest.fixture
def refuse_to_convert(monkeypatch):
    def convert(*_):
        raise AssertionError("converted although an argument is wrong")

    monkeypatch.setattr("tf_lottery.export.making.convert", convert)


@pytest.fixture
def path(tmp_path):
    """An existing file, which must be unchanged after the test."""
    path = tmp_path / "out" / "model.tflite"
    path.parent.mkdir()
    path.write_bytes(b"before")
    yield path
    assert path.read_bytes() == b"before"
    assert os.listdir(path.parent) == ["model.tflite"]


@pytest.fixture
def replace_task(tmp_path, monkeypatch, real_processes):
    """Returns a function that replaces the task files by Python source. No process may be left."""

    def replace(module, source):
        # An empty file named by its pid for each process, since several can start at once.
        pids = tmp_path / "pids"
        pids.mkdir()
        header = (
            f"import os, time\nopen(os.path.join({str(pids)!r}, str(os.getpid())), 'w').close()\n"
        )
        for name in ("convert.py", "quantize.py", "interpret.py"):
            (tmp_path / name).write_text(header + source)
        monkeypatch.setattr(module, "TASKS", tmp_path)

    yield replace
    for pid in _pids(tmp_path):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def _pids(tmp_path):
    return [int(path.name) for path in (tmp_path / "pids").glob("*")]


@on_tensorflow
@pytest.mark.parametrize(
    "module, function, arguments, message",
    [
        (conversion, "convert", {}, "converter crashed on the model.* The"),
        (quantization, "quantize", {"quantize": "float16"}, "cannot be quantized: The"),
        (verification, "run", {}, r"does not run \(default interpreter\): The"),
        (verification, "measure", {}, "cannot be timed: The"),
    ],
)
@pytest.mark.parametrize(
    "crash, cause",
    [("os.kill(os.getpid(), 11)", "SIGSEGV"), ("os._exit(7)", "status 7")],
)
def test_crash(
    module, function, arguments, message, crash, cause, sparse, path, replace_task, request
):
    if module is not conversion:
        request.getfixturevalue("fast_convert")
    source = f"def {function}(**_): {crash}\n"
    if function == "measure":
        interpret = str(verification.TASKS / "interpret.py")
        source += f"import runpy\nrun = runpy.run_path({interpret!r})['run']\n"
    replace_task(module, source)
    with pytest.raises(ExportError, match=rf"(?s){message} process .* {cause}.*") as caught:
        export_tflite(sparse, path, **arguments)
    assert "Nothing was written." in str(caught.value)


@on_tensorflow
def test_process_that_somebody_kills(sparse, path, replace_task, fast_convert, tmp_path):
    replace_task(verification, "def run(**_): time.sleep(60)")

    def kill():
        while not (pids := _pids(tmp_path)):
            time.sleep(0.02)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    # A daemon, since it waits for ever if the export ends before its processes start.
    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(ExportError, match="was ended by SIGKILL"):
        export_tflite(sparse, path, storage="dense")
    killer.join()


@on_tensorflow
def test_interrupted(sparse, path, replace_task, fast_convert, tmp_path):
    replace_task(
        verification, f"import signal\ndef run(**_): os.kill({os.getpid()}, 2); time.sleep(60)"
    )
    with pytest.raises(KeyboardInterrupt):
        export_tflite(sparse, path)


@on_tensorflow
def test_what_a_killed_export_left_is_deleted(sparse, tmp_path, fast_convert):
    left = tmp_path / f".model.tflite.{'0' * 32}.part"
    left.touch()
    os.utime(left, (0, 0))
    export_tflite(sparse, tmp_path / "model.tflite", storage="dense", runs=1)
    assert os.listdir(tmp_path) == ["model.tflite"]


@on_tensorflow
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_full_disk(error, sparse, path, fast_convert, monkeypatch):
    def write_bytes(self, data):
        with open(self, "wb") as file:
            file.write(data[:100])
        raise OSError(error, os.strerror(error), str(self))

    monkeypatch.setattr(pathlib.Path, "write_bytes", write_bytes)
    with pytest.raises(OSError, match=os.strerror(error)):
        export_tflite(sparse, path, runs=1)


@on_tensorflow
def test_full_temporary_folder(sparse, path, monkeypatch):
    import tensorflow as tf

    def write_out(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "weights; No space left on device")

    monkeypatch.setattr(type(keras.export.ExportArchive()), "write_out", write_out)
    with pytest.raises(OSError, match="temporary folder.*No space left on device"):
        export_tflite(sparse, path)


@on_tensorflow
def test_folder_without_permission(sparse, tmp_path, refuse_to_convert):
    folder = tmp_path
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        # Not even root can create files here.
        folder = pathlib.Path("/sys")
    if not folder.is_dir():
        pytest.skip("this user may write into any folder")
    with pytest.raises(OSError, match=r"`path` must be in a writable folder .*Received: '"):
        export_tflite(sparse, folder / "model.tflite")
    assert not (folder / "model.tflite").exists()


@on_tensorflow
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weight_that_is_not_finite_is_named(bad, sparse, path, refuse_to_convert):
    kernel = next(iter(sparse.kernels.values()))
    values = keras.ops.convert_to_numpy(kernel)
    kernel.assign(np.where(values == values.max(), bad, values))
    message = r"finite weights\. Nothing was written\. .*NaN or infinity in '.*only/kernel'"
    with pytest.raises(ExportError, match=message):
        export_tflite(sparse, path)


@on_tensorflow
@pytest.mark.parametrize("data", [np.ones((0, 64)), [], {}], ids=["no rows", "list", "dict"])
def test_empty_representative_data(data, sparse, path, refuse_to_convert):
    with pytest.raises(ValueError, match=r"`representative_data` must have one array per input"):
        export_tflite(sparse, path, quantize="int8", representative_data=data)


@on_tensorflow
def test_file_that_differs_is_refused(sparse, path, monkeypatch, content):
    (kernel,) = (k for k in sparse.model.get_weights() if k.ndim == 2)
    old = kernel[kernel != 0][0]
    spoiled = content.replace(old.tobytes(), np.float32(3 * old).tobytes())
    assert spoiled != content
    monkeypatch.setattr("tf_lottery.export.making.convert", lambda *_: spoiled)
    message = (
        r"Sparse: Output 'output_0' of the file differs from Keras by .*allowed is .* "
        r"Dense: Output 'output_0' .*Nothing was written\. Received: .*storage='auto', tol"
    )
    with pytest.raises(ExportError, match=message):
        export_tflite(sparse, path, np.ones((1, 64)))


@on_tensorflow
def test_wrong_sparse_file_gives_way_to_the_dense_one(sparse, tmp_path, fast_convert, monkeypatch):
    monkeypatch.setattr("tf_lottery.export.candidates.pack", lambda *_: b"????TFL3" + bytes(50))
    report = export_tflite(sparse, tmp_path / "model.tflite", runs=1)
    assert report.storage == "dense"
    assert report.reason.startswith("sparse storage is not right: The file does not run (default")
    with pytest.raises(ExportError, match=r"^Sparse: The file does not run"):
        export_tflite(sparse, tmp_path / "model.tflite", storage="sparse")


@on_tensorflow
@pytest.mark.parametrize("quantize, nearest", [("int8", "int16x8"), ("float16", None)])
def test_refused_precision_names_a_better_one(quantize, nearest, sparse, path, fast_convert):
    x = np.random.default_rng(0).normal(size=(2, 64))
    given = {"representative_data": x} if quantize == "int8" else {"sample_inputs": x}
    with pytest.raises(ExportError, match=rf"larger `tolerance`, or quantize={nearest!r}, which"):
        export_tflite(sparse, path, quantize=quantize, tolerance=1e-9, **given)


@pytest.mark.parametrize("runtime, io_type", [("micro", "int8"), ("litert", "uint8")])
def test_advice_names_no_precision_that_is_refused(runtime, io_type, sparse):
    settings = Settings(quantize="int8", runtime=runtime, io_type=io_type)
    with pytest.raises(ExportError, match="more `representative_data`") as caught:
        making._refuse([], sparse.model, settings)
    assert "int16x8" not in str(caught.value)
    # A search of files, which has no such arguments, shows the rest alone.
    assert caught.value.problem == ""
