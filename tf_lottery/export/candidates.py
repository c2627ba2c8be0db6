"""The files that an export chooses from: weights stored dense or sparse."""

import dataclasses
import gzip
import math

from tf_lottery.export.errors import ExportError
from tf_lottery.export.sparse_flatbuffer import pack
from tf_lottery.export.sparse_forms import MAX_SLOWDOWN
from tf_lottery.export.verification import Verdict, changed_constants, verify
from tf_lottery.export.xnnpack import sparse_inference_report

GOALS = ("disk", "download", "latency")
# Sparse storage must save this fraction of the file's bytes, and may take longer by as many
# milliseconds as the measured times of a small network vary.
MIN_FILE_GAIN, NOISE_MS = 0.02, 0.01
# If latencies differ by less than this factor, they count as equal and file size decides.
LATENCY_NOISE = 1.05


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A file that could be written.

    Args:
        storage: `"sparse"` or `"dense"`.
        content: Bytes of the file.
        verdict: `Verdict`, the result of running it.
    """

    storage: str
    content: bytes
    verdict: Verdict


def make_candidates(
    content,
    storage,
    optimize_for,
    inputs,
    expected,
    tolerance,
    runtime="litert",
    max_slowdown=MAX_SLOWDOWN,
):
    """Makes the files that `storage` allows, runs each and compares it with Keras.

    Args:
        content: Bytes of the dense-stored file, quantized or not.
        storage: `"auto"`, `"sparse"` or `"dense"`.
        optimize_for: String, one of `GOALS`.
        inputs: `Inputs`.
        expected: Dict of names to Keras' outputs.
        tolerance: Float, as in `verify`.
        runtime: String, as in `sparsify_flatbuffer`. Defaults to `"litert"`.
        max_slowdown: Float, as in `sparsify_flatbuffer`. Defaults to `1.5`.

    Returns:
        List of `Candidate`, including those that failed the comparison.

    Raises:
        ExportError: If `storage` is `"sparse"` and no weights can be stored sparse.
    """
    packed = None
    if storage != "dense":
        packed = _pack(content, storage, optimize_for, runtime, max_slowdown)
    candidates = []
    if packed is not None:
        verdict = verify(packed, inputs, expected, tolerance)
        candidates.append(Candidate("sparse", packed, _check_packed(verdict, packed, content)))
    if storage != "sparse":
        verdict = verify(content, inputs, expected, tolerance)
        candidates.append(Candidate("dense", content, verdict))
    return candidates


def _pack(content, storage, optimize_for, runtime, max_slowdown):
    """Returns the file stored sparse, or `None` if `"auto"` storage gains nothing by it."""
    goal = "latency" if optimize_for == "latency" else "disk"
    packed = pack(content, goal, runtime, max_slowdown)
    if packed == content and storage == "sparse":
        packed = pack(content, "disk", runtime, math.inf)
    if packed != content:
        return packed
    if storage == "auto":
        return None
    raise ExportError(
        "Argument `storage` must be 'dense' or 'auto' here: no constant of the file gets "
        "smaller in a sparse format that the runtime can read. Nothing was written. "
        "Received: storage='sparse'"
    )


def _check_packed(verdict, packed, content):
    """Returns the verdict on a sparse file after checks that running it here cannot make."""
    if verdict.problem:
        return verdict
    changed = changed_constants(packed, content)
    if changed:
        return Verdict(f"The file does not hold the weights of {changed}.")
    report = sparse_inference_report(packed)
    if report.verdict == "broken":
        operator, cause = next(iter(report.problems.items()))
        return Verdict(
            "On ARM and WebAssembly, XNNPACK's sparse kernels would load it wrong or not at all: "
            f"{operator} {cause} See `tfl.export.sparse_inference_report` for details. "
            "`tfl.export.sparsify_flatbuffer` makes the file anyway, for other devices."
        )
    return verdict


def choose(candidates, optimize_for, milliseconds, max_slowdown=MAX_SLOWDOWN):
    """Returns the best candidate without a problem, and the reason for the choice.

    Args:
        candidates: List of `Candidate`, at least one without a problem.
        optimize_for: String, one of `GOALS`.
        milliseconds: Dict of storages to the latencies of the candidates without a problem.
        max_slowdown: Float, as in `sparsify_flatbuffer`. Defaults to `1.5`.
    """
    right = [candidate for candidate in candidates if not candidate.verdict.problem]
    costs = {candidate.storage: len(candidate.content) for candidate in right}
    unit = "bytes"
    if optimize_for == "download":
        costs = {c.storage: len(gzip.compress(c.content, 9)) for c in right}
        unit = "bytes after gzip"
    elif optimize_for == "latency":
        fastest = min(milliseconds[storage] for storage in costs)
        alike = [s for s in costs if milliseconds[s] <= LATENCY_NOISE * fastest]
        right = [candidate for candidate in right if candidate.storage in alike]
    best = min(right, key=lambda candidate: costs[candidate.storage])
    if optimize_for == "latency":
        costs, unit = milliseconds, "milliseconds"
    elif len(right) == 2 and best.storage == "sparse":
        dense = next(candidate for candidate in right if candidate is not best)
        if reason := _does_not_pay(costs, milliseconds, max_slowdown, unit):
            return dense, reason
    others = [candidate for candidate in candidates if candidate is not best]
    return best, _reason(best, others, costs, unit)


def _does_not_pay(costs, milliseconds, max_slowdown, unit):
    """Returns why the sparse file is not worth its smaller size, or `""`."""
    gain = 1 - costs["sparse"] / costs["dense"]
    slower = milliseconds["sparse"] - milliseconds["dense"]
    factor = milliseconds["sparse"] / milliseconds["dense"]
    if gain < MIN_FILE_GAIN:
        return f"sparse storage does not pay: {gain:.1%} fewer {unit}"
    if factor > max_slowdown and slower > NOISE_MS:
        return (
            f"sparse storage does not pay: {gain:.1%} fewer {unit} for {factor:.2g} times the "
            f"milliseconds, {max_slowdown:g} times is allowed"
        )
    return ""


def _reason(best, others, costs, unit):
    if not others:
        return "stored sparse it is not smaller"
    (other,) = others
    if other.verdict.problem:
        return f"{other.storage} storage is not right: {other.verdict.problem}"
    number = ",.4f" if unit == "milliseconds" else ",d"
    first, second = costs[best.storage], costs[other.storage]
    return f"{first:{number}} {unit}, {other.storage} {second:{number}}"
