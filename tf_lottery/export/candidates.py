"""The files that an export chooses from: weights stored dense or sparse."""

import dataclasses
import gzip

from tf_lottery.export.errors import ExportError
from tf_lottery.export.sparse_flatbuffer import sparsify_flatbuffer
from tf_lottery.export.verification import Verdict, changed_constants, verify
from tf_lottery.export.xnnpack import sparse_inference_report

GOALS = ("disk", "download", "latency")
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


def make_candidates(content, storage, optimize_for, inputs, expected, tolerance):
    """Makes the files that `storage` allows, runs each and compares it with Keras.

    Args:
        content: Bytes of the dense-stored file, quantized or not.
        storage: `"auto"`, `"sparse"` or `"dense"`.
        optimize_for: String, one of `GOALS`.
        inputs: `Inputs`.
        expected: Dict of names to Keras' outputs.
        tolerance: Float, as in `verify`.

    Returns:
        List of `Candidate`, including those that failed the comparison.

    Raises:
        ExportError: If `storage` is `"sparse"` and no weights can be stored sparse.
    """
    packed = None if storage == "dense" else _pack(content, storage, optimize_for)
    candidates = []
    if packed is not None:
        verdict = verify(packed, inputs, expected, tolerance)
        candidates.append(Candidate("sparse", packed, _check_packed(verdict, packed, content)))
    if storage != "sparse":
        verdict = verify(content, inputs, expected, tolerance)
        candidates.append(Candidate("dense", content, verdict))
    return candidates


def _pack(content, storage, optimize_for):
    """Returns the file stored sparse, or `None` if `"auto"` storage gains nothing by it."""
    packed = sparsify_flatbuffer(content, "latency" if optimize_for == "latency" else "disk")
    if packed == content and storage == "sparse":
        packed = sparsify_flatbuffer(content, "disk")
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


def choose(candidates, optimize_for, milliseconds):
    """Returns the best candidate without a problem, and the reason for the choice.

    Args:
        candidates: List of `Candidate`, at least one without a problem.
        optimize_for: String, one of `GOALS`.
        milliseconds: Dict of storages to the latencies of the candidates without a problem.
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
    others = [candidate for candidate in candidates if candidate is not best]
    return best, _reason(best, others, costs, unit)


def _reason(best, others, costs, unit):
    if not others:
        return "stored sparse it is not smaller"
    (other,) = others
    if other.verdict.problem:
        return f"{other.storage} storage is not right: {other.verdict.problem}"
    number = ",.4f" if unit == "milliseconds" else ",d"
    first, second = costs[best.storage], costs[other.storage]
    return f"{first:{number}} {unit}, {other.storage} {second:{number}}"
