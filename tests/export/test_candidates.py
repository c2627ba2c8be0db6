import gzip
import math

import numpy as np
import pytest

from tf_lottery.export import ExportError, candidates
from tf_lottery.export.candidates import Candidate, choose, make_candidates
from tf_lottery.export.inputs import Inputs
from tf_lottery.export.settings import Settings
from tf_lottery.export.sparse_flatbuffer import pack, sparsify_flatbuffer
from tf_lottery.export.verification import Verdict, interpreter_process


@pytest.fixture
def inputs():
    x = np.random.default_rng(0).normal(size=(2, 64)).astype("float32")
    return Inputs(["input_0"], None, 1, [x])


@pytest.fixture
def make(dense_file, inputs):
    """Returns a function that makes the candidates for the file of a kernel."""

    def make(kernel, storage="auto", optimize_for="disk", content=None):
        outputs = inputs.arrays[0] @ kernel + np.linspace(-0.1, 0.1, kernel.shape[1])
        expected = {"output_0": outputs[:, None].astype("float32")}
        content = dense_file(kernel) if content is None else content
        settings = Settings(storage=storage, optimize_for=optimize_for)
        with interpreter_process() as process:
            return make_candidates(content, inputs, expected, settings, process)

    return make


def test_both_storages_are_tried(make, pruned, dense_file):
    kernel = pruned((64, 32), 0.9)
    sparse, dense = make(kernel)
    assert [sparse.storage, dense.storage] == ["sparse", "dense"]
    assert dense.content == dense_file(kernel)
    assert sparse.content == sparsify_flatbuffer(dense.content)
    assert sparse.verdict == dense.verdict and sparse.verdict.problem == ""


@pytest.mark.parametrize("storage", ["sparse", "dense"])
def test_one_storage_is_tried_if_asked_for(storage, make, pruned):
    assert [c.storage for c in make(pruned((64, 32), 0.9), storage)] == [storage]


def test_nothing_to_leave_out(make, pruned):
    kernel = pruned((64, 32), 0.0)
    assert [c.storage for c in make(kernel)] == ["dense"]
    with pytest.raises(ExportError, match="`storage` must be 'dense' or 'auto' here.*no constant"):
        make(kernel, "sparse")


def test_sparse_storage_for_latency_takes_what_is_not_fast_too(make, pruned, dense_file):
    kernel = pruned((64, 32), 0.5, block=4)
    content = dense_file(kernel)
    assert all(len(c.content) < len(content) for c in make(kernel, "sparse", "latency"))


def test_forms_that_are_timed(make, pruned):
    forms = [c.name for c in make(pruned((64, 32), 0.9, block=4), optimize_for="latency")]
    assert forms == ["unpacked sparse", "block-sparse", "dense"]
    # Single zeros leave no empty blocks.
    forms = [c.name for c in make(pruned((64, 32), 0.6), optimize_for="latency")]
    assert forms == ["unpacked sparse", "dense"]


def test_wrong_file_is_a_candidate_with_a_problem(make, pruned):
    kernel = pruned((64, 32), 0.9)
    sparse, dense = make(-kernel, content=make(kernel, "dense")[0].content)
    assert "differs from Keras" in sparse.verdict.problem
    assert "differs from Keras" in dense.verdict.problem


def test_lost_weight_that_no_input_shows(make, pruned, inputs, monkeypatch):
    inputs.arrays[0][:, 3] = 0.0
    kernel = pruned((64, 32), 0.9)
    kernel[3, :] = 5.0

    def lossy(content, *_):
        return pack(content.replace(np.float32(5).tobytes(), bytes(4)))

    monkeypatch.setattr(candidates, "pack", lossy)
    sparse, dense = make(kernel)
    assert sparse.verdict.problem == "The file does not hold the weights of ['tensor_1']."
    assert dense.verdict.problem == ""


RIGHT = Verdict("", 1e-7, 1e-7)


def test_smaller_file_is_better():
    large, small = Candidate("sparse", bytes(1500), RIGHT), Candidate("dense", bytes(900), RIGHT)
    best, reason = choose([large, small], "disk", {"sparse": 1.0, "dense": 2.0})
    assert best is small and reason == "900 bytes, sparse 1,500"


@pytest.mark.parametrize(
    "size, milliseconds, max_slowdown, storage",
    [
        (1000, 1.0, 1.5, "dense"),  # 2% fewer bytes
        (900, 1.0, 1.5, "sparse"),
        (900, 1.6, 1.5, "dense"),
        (900, 1.6, 2.0, "sparse"),
        (900, 1.6, math.inf, "sparse"),
    ],
)
def test_sparse_storage_must_pay(size, milliseconds, max_slowdown, storage):
    sparse, dense = Candidate("sparse", bytes(size), RIGHT), Candidate("dense", bytes(1020), RIGHT)
    times = {"sparse": milliseconds, "dense": 1.0}
    best, reason = choose([sparse, dense], "disk", times, max_slowdown)
    assert best.storage == storage and ("does not pay" in reason) == (storage == "dense")


def test_microseconds_are_no_slowdown():
    sparse, dense = Candidate("sparse", bytes(500), RIGHT), Candidate("dense", bytes(1000), RIGHT)
    best, _ = choose([sparse, dense], "disk", {"sparse": 0.005, "dense": 0.002}, 1.5)
    assert best is sparse


def test_smaller_download_is_better():
    noise = np.random.default_rng(0).bytes(600)
    zipped = len(gzip.compress(noise, 9)), len(gzip.compress(bytes(900), 9))
    sparse, dense = Candidate("sparse", noise, RIGHT), Candidate("dense", bytes(900), RIGHT)
    best, reason = choose([sparse, dense], "download", {"sparse": 1.0, "dense": 2.0})
    assert best is dense
    assert reason == f"{zipped[1]} bytes after gzip, sparse {zipped[0]}"


@pytest.mark.parametrize(
    "milliseconds, best, reason",
    [
        ({"sparse": 1.0, "dense": 0.5}, "dense", "0.5000 milliseconds, sparse 1.0000"),
        ({"sparse": 0.5, "dense": 1.0}, "sparse", "0.5000 milliseconds, dense 1.0000"),
        # The latencies differ by less than noise, so the smaller file is chosen.
        ({"sparse": 1.04, "dense": 1.0}, "sparse", "1.0400 milliseconds, dense 1.0000"),
        ({"sparse": 1.06, "dense": 1.0}, "dense", "1.0000 milliseconds, sparse 1.0600"),
    ],
)
def test_faster_file_is_better(milliseconds, best, reason):
    both = [Candidate("sparse", bytes(5), RIGHT), Candidate("dense", bytes(9), RIGHT)]
    chosen, why = choose(both, "latency", {**milliseconds, "original": 0.1})
    assert (chosen.storage, why) == (best, reason)


def test_fastest_form_is_named():
    forms = [Candidate("sparse", bytes(5), RIGHT, form) for form in ("unpacked sparse", "block")]
    wrong = Candidate("sparse", b"", Verdict("It is wrong."), "partly block")
    times = {"unpacked sparse": 2.0, "block": 0.5, "dense": 1.5}
    dense = Candidate("dense", bytes(9), RIGHT)
    best, reason = choose([*forms, wrong, dense], "latency", times)
    assert best is forms[1] and reason == (
        "block, 0.5000 milliseconds, unpacked sparse 2.0000, dense 1.5000; "
        "partly block storage is not right: It is wrong."
    )


@pytest.mark.parametrize("goal", ["disk", "download", "latency"])
def test_wrong_file_is_never_chosen(goal):
    wrong = Candidate("sparse", b"", Verdict("Output 'y' is wrong."))
    dense = Candidate("dense", bytes(9), RIGHT)
    best, reason = choose([wrong, dense], goal, {"dense": 2.0, "original": 1.0})
    assert best is dense
    assert reason == "sparse storage is not right: Output 'y' is wrong."


def test_only_candidate():
    dense = Candidate("dense", bytes(9), RIGHT)
    best, reason = choose([dense], "disk", {"dense": 2.0})
    assert best is dense and reason == "stored sparse it is not smaller"
