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
# The sparse forms that are timed to find the fastest, by their goals in `sparse_forms`.
FORMS = {
    "unpacked": "unpacked sparse",
    "direct": "block-sparse",
    "latency": "partly block-sparse",
}


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A file that could be written.

    Args:
        storage: `"sparse"` or `"dense"`.
        content: Bytes of the file.
        verdict: `Verdict`, the result of running it.
        form: String, the name of its sparse form where several are tried. Defaults to `""`.
    """

    storage: str
    content: bytes
    verdict: Verdict
    form: str = ""

    @property
    def name(self):
        """The form, or else the storage."""
        return self.form or self.storage


def make_candidates(content, inputs, expected, settings, process):
    """Makes the files that the settings allow, runs each and compares it with Keras.

    Args:
        content: Bytes of the dense-stored file, quantized or not.
        inputs: `Inputs`.
        expected: Dict of names to Keras' outputs.
        settings: `Settings`.
        process: The process of `verification.interpreter_process`.

    Returns:
        List of `Candidate`, including those that failed the comparison.

    Raises:
        ExportError: If `storage` is `"sparse"` and no weights can be stored sparse.
    """

    def run(file):
        return verify(file, inputs, expected, settings.tolerance, process)

    candidates = []
    if settings.storage != "dense":
        for form, packed in _packed_files(content, settings).items():
            verdict = _check_packed(run(packed), packed, content)
            candidates.append(Candidate("sparse", packed, verdict, form))
    if settings.storage != "sparse":
        candidates.append(Candidate("dense", content, run(content)))
    return candidates


def _packed_files(content, settings):
    """Returns a dict of names of forms to files stored sparse, empty if none gains anything."""
    limits = settings.runtime, settings.max_slowdown
    goals = FORMS if settings.optimize_for == "latency" else {"disk": ""}
    files = {}
    for goal, form in goals.items():
        packed = pack(content, goal, *limits)
        if packed not in (content, *files.values()):
            files[form] = packed
    if files or settings.storage == "auto":
        return files
    packed = pack(content, "disk", settings.runtime, math.inf)
    if packed != content:
        return {"": packed}
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
        milliseconds: Dict of names to the latencies of the candidates without a problem.
        max_slowdown: Float, as in `sparsify_flatbuffer`. Defaults to `1.5`.
    """
    right = [candidate for candidate in candidates if not candidate.verdict.problem]
    costs = {candidate.name: len(candidate.content) for candidate in right}
    unit = "bytes"
    if optimize_for == "download":
        costs = {c.name: len(gzip.compress(c.content, 9)) for c in right}
        unit = "bytes after gzip"
    elif optimize_for == "latency":
        fastest = min(milliseconds[name] for name in costs)
        right = [c for c in right if milliseconds[c.name] <= LATENCY_NOISE * fastest]
    best = min(right, key=lambda candidate: costs[candidate.name])
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
        return (
            "the only sparse form"
            if best.storage == "sparse"
            else "stored sparse it is not smaller"
        )
    number = ",.4f" if unit == "milliseconds" else ",d"
    right = [candidate for candidate in others if not candidate.verdict.problem]
    reasons = []
    if right:
        listed = ", ".join(f"{c.name} {costs[c.name]:{number}}" for c in right)
        form = f"{best.form}, " if best.form else ""
        reasons.append(f"{form}{costs[best.name]:{number}} {unit}, {listed}")
    wrong = [candidate for candidate in others if candidate not in right]
    reasons += [f"{c.name} storage is not right: {c.verdict.problem}" for c in wrong]
    return "; ".join(reasons)
