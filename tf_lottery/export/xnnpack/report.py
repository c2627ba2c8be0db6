"""The report of `tfl.export.sparse_inference_report`."""

import collections
import dataclasses
from typing import Any

from tf_lottery.printable import Printable, plain_table

# How many reasons and problems are printed unless all are asked for.
NUM_TOP = 5
VERDICTS = {
    "sparse": "XNNPACK's sparse kernels take it on ARM and WebAssembly",
    "dense": "XNNPACK computes with all weights, zeros too",
    "broken": "XNNPACK mixes up its channels on ARM and WebAssembly: the file does not load "
    "there or computes wrong numbers. Store the weights dense",
}


@dataclasses.dataclass(frozen=True)
class OperatorRow:
    """One operator of a `SparseInferenceReport`.

    Args:
        index: Integer, the operator's index in the file.
        name: String, the name of its output in the file.
        kind: String, its name in the schema, for example `"CONV_2D"`.
        input_shape: Tuple of integers.
        output_shape: Tuple of integers.
        num_weights: Integer, the weights of a 1x1 convolution or a dense layer on images, else
            0.
        num_zeros: Integer, how many of them are zero.
        taken: Boolean, whether it computes with channels first, as sparse kernels do.
        is_wrong: Boolean, whether its output is read in the wrong layout.
        blocks: Boolean, whether it keeps a neighbor from being taken.
        reason: String, why it is not taken or wrong; `""` for operators that are taken.
        advice: String, what to change, or `""`.
    """

    index: int
    name: str
    kind: str
    input_shape: tuple
    output_shape: tuple
    num_weights: int
    num_zeros: int
    taken: bool
    is_wrong: bool
    blocks: bool
    reason: str
    advice: str

    @property
    def sparsity(self) -> float | None:
        """The fraction of zeros, `None` if `num_weights` is 0."""
        return self.num_zeros / self.num_weights if self.num_weights else None


@dataclasses.dataclass(frozen=True)
class SparseInferenceReport(Printable):
    """Which operators of a TFLite file XNNPACK's sparse kernels take.

    Printing it shows the verdict and the reasons; `to_table(verbose=True)` shows every operator,
    and `to_dict()` gives plain values.

    Args:
        rows: List of `OperatorRow` in the order of the file, without operators that only unpack
            weights or pad the input of a convolution.
        notes: List of strings, remarks on the whole network.
    """

    rows: list
    notes: list

    @property
    def verdict(self) -> str:
        """`"sparse"`, `"dense"` or `"broken"`; see `description`."""
        if any(row.is_wrong for row in self.rows):
            return "broken"
        return "sparse" if any(row.taken and row.num_weights for row in self.rows) else "dense"

    @property
    def description(self) -> str:
        """What the verdict means, a sentence without a full stop."""
        return VERDICTS[self.verdict]

    @property
    def sparsity(self) -> float:
        """The fraction of zeros over the weights of all rows, 0 if there are none."""
        total = sum(row.num_weights for row in self.rows)
        return sum(row.num_zeros for row in self.rows) / total if total else 0.0

    @property
    def problems(self) -> dict[str, str]:
        """Dict of operators, such as `"CONV_2D 1"`, to the reason and advice.

        It has only the decisive operators: those that give wrong numbers, else those that block
        their neighbors, else the first one that is not taken.
        """
        if self.verdict == "sparse":
            return {}
        rows = [row for row in self.rows if row.is_wrong] or [r for r in self.rows if r.blocks]
        rows = rows or [row for row in self.rows if row.num_weights and not row.taken][:1]
        return {f"{r.kind} {r.index}": f"{r.reason}. {r.advice}".rstrip() for r in rows}

    def to_dict(self) -> dict:
        """Returns the report as a dict of plain values, fit for JSON."""
        return {
            "verdict": self.verdict,
            "sparsity": self.sparsity,
            "problems": self.problems,
            "notes": list(self.notes),
            "operators": [
                {
                    **dataclasses.asdict(row),
                    "input_shape": list(row.input_shape),
                    "output_shape": list(row.output_shape),
                    "sparsity": row.sparsity,
                }
                for row in self.rows
            ],
        }

    @property
    def reasons(self) -> list[tuple[str, str, int]]:
        """List of tuples: reason, advice and the number of operators that it keeps out.

        Wrong operators come first, then the reasons of those that block neighbors, then others;
        the most frequent ones first.
        """
        counts, first = collections.Counter(), {}
        for row in self.rows:
            if row.reason:
                key = row.reason.split(": ")[0] if row.is_wrong else row.reason, row.advice
                counts[key] += 1
                first[key] = min(first.get(key, 2), 0 if row.is_wrong else 1 if row.blocks else 2)
        keys = sorted(counts, key=lambda key: (first[key], -counts[key]))
        return [(reason, advice, counts[reason, advice]) for reason, advice in keys]

    def to_table(self, verbose: bool = False) -> Any:
        """Returns what printing shows: the verdict, the reasons for it and what to change.

        Args:
            verbose: Boolean, whether to list every operator. Defaults to `False`.
        """
        from rich import box
        from rich.console import Group

        taken = sum(row.taken and not row.is_wrong for row in self.rows)
        lines = [
            f"{self.verdict}: {self.description}.",
            f"{taken} of {len(self.rows)} operators are taken; {self.sparsity:.2%} of the weights "
            "of its 1x1 convolutions are zero.",
            *self.notes,
        ]
        lines += [f"{operator}: {text}" for operator, text in self.problems.items()][:NUM_TOP]
        table = plain_table(box=box.SIMPLE_HEAD)
        table.add_column("Operators", justify="right")
        table.add_column("Why not", overflow="fold")
        table.add_column("What to change", overflow="fold")
        shown = [row for row in self.reasons if verbose or not row[0].startswith("follows ")]
        hidden = sum(count for *_, count in self.reasons) - sum(count for *_, count in shown)
        for reason, advice, count in shown if verbose else shown[:NUM_TOP]:
            table.add_row(str(count), reason, advice)
        if hidden:
            table.add_row(str(hidden), "follow one of these", "")
        if not verbose and len(shown) > NUM_TOP:
            rest = sum(count for *_, count in shown[NUM_TOP:])
            table.add_row(str(rest), "for other reasons (-v lists them)", "")
        parts = ["\n".join(lines), *([table] if table.row_count else [])]
        return Group(*parts, *([self._operators()] if verbose else []))

    def _operators(self):
        from rich import box

        table = plain_table(box=box.SIMPLE_HEAD)
        table.add_column("Operator", overflow="fold")
        table.add_column("Zeros", justify="right")
        table.add_column("Sparse")
        table.add_column("Why not", overflow="fold")
        for row in self.rows:
            zeros = "" if row.sparsity is None else f"{row.sparsity:.1%}"
            taken = "wrong" if row.is_wrong else "yes" if row.taken else "no"
            shape = " x ".join(map(str, row.output_shape))
            title = f"{row.kind} {row.index}, {shape}\n{row.name}"
            table.add_row(title, zeros, taken, row.reason)
        return table

    def __rich__(self):
        return self.to_table()
