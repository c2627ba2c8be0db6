import numpy as np
import pytest

from tf_lottery.export import ExportError, flatbuffer, verification
from tf_lottery.export.inputs import Inputs
from tf_lottery.export.sparse_flatbuffer import sparsify_flatbuffer
from tf_lottery.export.verification import (
    Verdict,
    changed_constants,
    interpreter_process,
    latencies,
    verify,
)


@pytest.fixture
def process():
    with interpreter_process() as process:
        yield process


@pytest.fixture
def inputs():
    x = np.random.default_rng(0).normal(size=(3, 32)).astype("float32")
    return Inputs(["input_0"], None, 1, [x])


@pytest.fixture
def kernel(pruned):
    return pruned((32, 16), 0.8)


@pytest.fixture
def content(kernel, dense_file):
    return dense_file(kernel)


@pytest.fixture
def expected(inputs, kernel):
    """The outputs of the file, computed with NumPy: an array of three steps of one row."""
    bias = np.linspace(-0.1, 0.1, 16, dtype="float32")
    return {"output_0": (inputs.arrays[0] @ kernel + bias)[:, None]}


def test_right_file(content, inputs, expected, process):
    verdict = verify(content, inputs, expected, tolerance=1e-5, process=process)
    assert verdict.problem == ""
    largest = np.abs(expected["output_0"]).max()
    assert verdict.difference < 1e-5 * largest
    assert verdict.relative_difference == pytest.approx(verdict.difference / largest)


def test_difference_is_the_largest_of_all_steps(content, inputs, expected, process):
    largest = np.abs(expected["output_0"]).max()
    expected["output_0"][2, 0, 5] += 0.01 * largest
    scale = np.abs(expected["output_0"]).max()
    verdict = verify(content, inputs, expected, tolerance=0.011, process=process)
    assert verdict.problem == ""
    assert verdict.difference == pytest.approx(0.01 * largest, rel=1e-3)
    assert verdict.relative_difference == pytest.approx(0.01 * largest / scale, rel=1e-3)
    verdict = verify(content, inputs, expected, tolerance=0.009, process=process)
    assert verdict.problem == (
        f"Output 'output_0' of the file differs from Keras by {0.01 * largest:.3g}, allowed is "
        f"{0.009 * scale:.3g}; the largest value in Keras is {scale:.3g}."
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_output_that_is_not_finite(bad, dense_file, inputs, expected, kernel, process):
    verdict = verify(dense_file(kernel + bad), inputs, expected, tolerance=0.1, process=process)
    assert verdict.problem == "Output 'output_0' of the file has NaN, infinity or another shape."


def test_output_of_another_shape(content, inputs, expected, process):
    other = {"output_0": expected["output_0"][..., :15]}
    assert "another shape" in verify(content, inputs, other, tolerance=0.1, process=process).problem


def test_output_of_zeros_is_compared_with_a_smallest_scale(dense_file, inputs, process):
    zeros = {"output_0": np.zeros((3, 1, 1), "float32")}
    # The file has one bias, -0.1.
    verdict = verify(
        dense_file(np.zeros((32, 1), "float32")), inputs, zeros, tolerance=0.5, process=process
    )
    assert "differs from Keras by 0.1, allowed is 5e-07" in verdict.problem


def test_integers_have_to_be_equal(builder, process):
    x, y = builder.tensor((1, 4), dtype="int32"), builder.tensor((1, 4), dtype="int32")
    builder.operator("NEG", [x], [y], ("NegOptions", {}))
    content = builder.content([x], [y])
    inputs = Inputs(["input_0"], None, 1, [np.array([[1, -2, 3, 100]], "int32")])
    expected = np.array([[[-1, 2, -3, -100]]], "int32")
    assert verify(content, inputs, {"output_0": expected}, 0.1, process) == Verdict()
    expected[0, 0, 3] = -99
    verdict = verify(content, inputs, {"output_0": expected}, 0.1, process)
    assert "differs from Keras by 1, allowed is 0;" in verdict.problem


def test_file_that_does_not_load(content, inputs, expected, process):
    verdict = verify(content[:400], inputs, expected, tolerance=0.1, process=process)
    assert verdict.problem.startswith("The file does not run (default interpreter): ValueError")


@pytest.mark.parametrize("resolver", ["default", "without delegates"])
def test_file_that_crashes_an_interpreter(
    resolver, content, inputs, expected, tmp_path, monkeypatch, real_processes, process
):
    (tmp_path / "interpret.py").write_text(
        "import os, runpy, signal\n"
        f"names = runpy.run_path({str(verification.TASKS / 'interpret.py')!r})\n"
        "def run(resolver, **arguments):\n"
        f"    if resolver == {resolver!r}: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    return names['run'](resolver=resolver, **arguments)\n"
    )
    monkeypatch.setattr(verification, "TASKS", tmp_path)
    problem = verify(content, inputs, expected, tolerance=0.1, process=process).problem
    label = {"default": "default interpreter"}.get(resolver, resolver)
    assert problem.startswith(f"The file does not run ({label}): The process was ended by SIGSEGV")


def test_packed_constants_are_those_of_the_twin(content, pruned, dense_file):
    packed = sparsify_flatbuffer(content)
    assert packed != content and changed_constants(packed, content) == []
    assert changed_constants(content, content) == []
    blocks = dense_file(pruned((256, 64), 0.9, block=4))
    assert changed_constants(sparsify_flatbuffer(blocks), blocks) == []


def test_packed_constants_without_any_weight_are_those_of_the_twin(dense_file):
    content = dense_file(np.zeros((64, 32), "float32"), np.ones((32, 32), "float32"))
    packed = sparsify_flatbuffer(content)
    assert packed != content and changed_constants(packed, content) == []


@pytest.mark.parametrize("what", ["values", "positions"])
def test_changed_constant_is_named(what, content):
    model = flatbuffer.read_model(sparsify_flatbuffer(content))
    (tensor,) = (t for t in model.subgraphs[0].tensors if t.sparsity is not None)
    if what == "values":
        values = model.buffers[tensor.buffer].data.copy()
        values[3] ^= 1
        model.buffers[tensor.buffer].data = values
    else:
        indices = tensor.sparsity.dimMetadata[1].arrayIndices
        indices.values = np.asarray(indices.values) ^ (np.arange(len(indices.values)) == 0)
    changed = flatbuffer.write_model(model)
    assert changed_constants(changed, content) == ["tensor_1"]


def test_latencies_are_those_of_the_files(dense_file, inputs, process):
    small, large = np.ones((32, 4), "float32"), np.ones((32, 20_000), "float32")
    times = latencies(
        {"a": dense_file(small), "b": dense_file(large)}, inputs, runs=25, process=process
    )
    assert list(times) == ["a", "b"] and 0 < 5 * times["a"] < times["b"]


def test_process_killed_while_it_measures(inputs, tmp_path, monkeypatch, real_processes, process):
    (tmp_path / "interpret.py").write_text("import os\ndef measure(**_): os.kill(os.getpid(), 9)")
    monkeypatch.setattr(verification, "TASKS", tmp_path)
    with pytest.raises(ExportError, match=r"timed.*SIGKILL.*Nothing was written"):
        latencies({"a": b""}, inputs, runs=5, process=process)
