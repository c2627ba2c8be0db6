"""The report of `tfl.export.sparse_inference_report`."""

import dataclasses

from tf_lottery.printable import Printable

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
    def sparsity(self):
        """The fraction of zeros, `None` if `num_weights` is 0."""
        return self.num_zeros / self.num_weights if self.num_weights else None


@dataclasses.dataclass(frozen=True)
class SparseInferenceReport(Printable):
    """Which operators of a TFLite file XNNPACK's sparse kernels take.

    Printing it shows a table; `to_dict()` gives plain values.

    Args:
        rows: List of `OperatorRow` in the order of the file, without operators that only unpack
            weights or pad the input of a convolution.
        notes: List of strings, remarks on the whole network.
    """

    rows: list
    notes: list

    @property
    def verdict(self):
        """`"sparse"`, `"dense"` or `"broken"`; see `description`."""
        if any(row.is_wrong for row in self.rows):
            return "broken"
        return "sparse" if any(row.taken and row.num_weights for row in self.rows) else "dense"

    @property
    def description(self):
        """What the verdict means, a sentence without a full stop."""
        return VERDICTS[self.verdict]

    @property
    def sparsity(self):
        """The fraction of zeros over the weights of all rows, 0 if there are none."""
        total = sum(row.num_weights for row in self.rows)
        return sum(row.num_zeros for row in self.rows) / total if total else 0.0

    @property
    def problems(self):
        """Dict of operators, such as `"CONV_2D 1"`, to the reason and advice.

        It has only the decisive operators: those that give wrong numbers, else those that block
        their neighbors, else the first one that is not taken.
        """
        if self.verdict == "sparse":
            return {}
        rows = [row for row in self.rows if row.is_wrong] or [r for r in self.rows if r.blocks]
        rows = rows or [row for row in self.rows if row.num_weights and not row.taken][:1]
        return {f"{r.kind} {r.index}": f"{r.reason}. {r.advice}".rstrip() for r in rows}

    def to_dict(self):
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

    def __rich__(self):
        from rich.table import Table

        title = f"{self.verdict}: {self.description}.\n{self.sparsity:.2%} of the weights of "
        title += "its 1x1 convolutions are zero."
        table = Table(title=title, title_justify="left")
        table.add_column("Operator", overflow="fold")
        table.add_column("Output")
        table.add_column("Zeros", justify="right")
        table.add_column("Sparse")
        table.add_column("Why not", overflow="fold")
        for row in self.rows:
            zeros = "" if row.sparsity is None else f"{row.sparsity:.1%}"
            taken = "wrong" if row.is_wrong else "yes" if row.taken else "no"
            shape = " x ".join(map(str, row.output_shape))
            table.add_row(f"{row.kind} {row.index}\n{row.name}", shape, zeros, taken, row.reason)
        lines = [f"{operator}: {text}" for operator, text in self.problems.items()]
        table.caption, table.caption_justify = "\n".join([*self.notes, *lines]), "left"
        return table
