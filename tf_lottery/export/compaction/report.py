"""The report of `tfl.compact`: what was removed, what stays and why."""

import dataclasses

from tf_lottery.printable import Printable, listed, plain_table

SHARED = "both models have the same layer or weights, which its config does not copy"
REPLACED = "the calls inside it are in its place, as at inference"


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """One layer with weights.

    Args:
        path: String, the layer's name, preceded by the names of the models around it.
        units_before: Integer, the number of its units or channels, 0 if it is not known.
        units_after: Integer, their number in the smaller model.
        parameters_before: Integer, the number of its weights.
        parameters_after: Integer, their number in the smaller model.
    """

    path: str
    units_before: int
    units_after: int
    parameters_before: int
    parameters_after: int


@dataclasses.dataclass(frozen=True)
class CompactionReport(Printable):
    """What `tfl.compact` removed.

    Printing it shows a table; `to_dict()` gives plain numbers.

    Args:
        name: String, the model's name.
        rows: List of `LayerRow`, one for every layer with weights.
        gathered: Dict of paths of layers that select among the model's inputs to the number
            of inputs selected.
        kept: Dict of paths of layers to a list of reasons why dead or constant units stay.
        left_alone: Dict of paths of layers to the reason why none of their input or output
            channels was removed.
        reused: List of the names of layers that cannot be copied, so that the smaller model uses
            the given model's layer itself, and of operations that read variables of the given
            model.
        groups: Dict of the names of channel groups of which pruned channels stay to the reason.
        replaced: List of the paths of layers in whose place the smaller model has the calls that
            their `call` makes at inference.
    """

    name: str
    rows: list
    gathered: dict
    kept: dict
    left_alone: dict
    reused: list = dataclasses.field(default_factory=list)
    groups: dict = dataclasses.field(default_factory=dict)
    replaced: list = dataclasses.field(default_factory=list)

    @property
    def parameters_before(self) -> int:
        """The number of weights of the given model."""
        return sum(row.parameters_before for row in self.rows)

    @property
    def parameters_after(self) -> int:
        """The number of weights of the smaller model."""
        return sum(row.parameters_after for row in self.rows)

    @property
    def ratio(self) -> float:
        """How many times fewer weights the smaller model has."""
        return self.parameters_before / self.parameters_after if self.rows else 1.0

    def to_dict(self) -> dict:
        """Returns the report as a dict of plain values, fit for JSON."""
        return {
            **dataclasses.asdict(self),
            "parameters_before": self.parameters_before,
            "parameters_after": self.parameters_after,
            "ratio": self.ratio,
        }

    def __rich__(self):
        title = (
            f"{self.name}: {self.parameters_after:,} of {self.parameters_before:,} parameters, "
            f"{self.ratio:.2f} times fewer"
        )
        table = plain_table(title=title, title_justify="left")
        table.add_column("Layer", overflow="fold")
        for heading in ("Units", "Kept", "Parameters", "Kept"):
            table.add_column(heading, justify="right")
        smaller = [row for row in self.rows if row.parameters_after != row.parameters_before]
        for row in smaller:
            numbers = dataclasses.astuple(row)[1:]
            table.add_row(row.path, *(f"{number:,}" for number in numbers))
        if len(smaller) < len(self.rows):
            table.add_row(f"{len(self.rows) - len(smaller)} layers as they were")
        table.caption, table.caption_justify = "\n".join(self._lines()), "left"
        return table

    def _lines(self):
        """Returns the lines below the table."""
        inputs = {path: f"{count:,} inputs" for path, count in self.gathered.items()}
        kept = {path: "; ".join(reasons) for path, reasons in self.kept.items()}
        reused = dict.fromkeys(self.reused, SHARED)
        sections = {
            "Select inputs:": inputs,
            "Kept:": kept,
            "Left alone:": self.left_alone,
            "Not copied:": reused,
            "Replaced:": dict.fromkeys(self.replaced, REPLACED),
            "Pruned groups that stay; `exclude` leaves them out:": self.groups,
        }
        return [
            line
            for head, entries in sections.items()
            if entries
            for line in (head, *(f"{listed(ps)}: {text}" for text, ps in _by_text(entries).items()))
        ]


def _by_text(entries):
    """Returns a dict of texts to the list of paths that have each of them."""
    found = {}
    for path, text in entries.items():
        found.setdefault(text, []).append(path)
    return found
