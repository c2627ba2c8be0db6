"""Explains what XNNPACK does with every operator of a network, and why."""

from tf_lottery.export.xnnpack.layout import Layout
from tf_lottery.export.xnnpack.report import OperatorRow, SparseInferenceReport
from tf_lottery.export.xnnpack.rules import Role, multiplies_pixels, role

OUTSIDE = Role(reason="is not run by XNNPACK")
NO_END = "no `GlobalAveragePooling2D` or depth-to-space ends the part that fits"
END = "End every branch in `GlobalAveragePooling2D` and `Dense`."
MIXED_UP = "computes with channels first, but its output is read as channels last"


def explain(nodes, outputs):
    """Returns the `SparseInferenceReport` of a graph.

    Args:
        nodes: List of `Node` in the order of the file.
        outputs: Set of the graph's output tensors.
    """
    graph = _Graph(nodes, outputs)
    rows = [graph.row(position) for position in range(len(nodes))]
    has_end = any(part.layout.has_end for part in graph.parts.values())
    return SparseInferenceReport(rows, [] if has_end else [NO_END])


class _Part:
    """A connected part of the graph, which XNNPACK runs as one network."""

    def __init__(self, number, nodes, roles, outputs):
        self.positions = [i for i, node in enumerate(nodes) if node.part == number]
        own = [nodes[i] for i in self.positions]
        elsewhere = {t for node in nodes if node.part != number for t in node.inputs}
        written = {t for node in own for t in node.outputs}
        own_roles = [roles[i] for i in self.positions]
        self.layout = Layout(own, own_roles, written & (elsewhere | outputs))
        # The delegate requests sparse kernels only if it unpacked sparse weights of the part.
        self.is_stored_sparse = any(node.has_sparse_weights for node in own)


class _Graph:
    def __init__(self, nodes, outputs):
        self.nodes = nodes
        self.roles = [OUTSIDE if node.part < 0 else role(node) for node in nodes]
        numbers = {node.part for node in nodes if node.part >= 0}
        self.parts = {n: _Part(n, nodes, self.roles, outputs) for n in sorted(numbers)}
        producers = {t: i for i, node in enumerate(nodes) for t in node.outputs}
        self.sources = [sorted({producers[t] for t in n.inputs if t in producers}) for n in nodes]
        self.readers = [
            [i for i, s in enumerate(self.sources) if p in s] for p in range(len(nodes))
        ]

    def row(self, position):
        node, is_wrong = self.nodes[position], False
        part = self.parts.get(node.part)
        own = part.positions.index(position) if part else None
        taken = part is not None and part.is_stored_sparse and own in part.layout.taken
        if taken:
            is_wrong = own in part.layout.wrong
            reason, advice = self._mixed_up(position) if is_wrong else ("", "")
        else:
            reason, advice = self._why_not(position, part, own)
        counts = multiplies_pixels(node)
        return OperatorRow(
            index=node.index,
            name=node.name,
            kind=node.kind,
            input_shape=node.input_shape,
            output_shape=node.output_shape,
            num_weights=node.weights_shape[0] * node.weights_shape[-1] if counts else 0,
            num_zeros=node.num_zeros if counts else 0,
            taken=taken,
            is_wrong=is_wrong,
            blocks=not taken and self._blocks(position),
            reason=reason,
            advice=advice,
        )

    def _title(self, position):
        return f"{self.nodes[position].kind} {self.nodes[position].index}"

    def _fits(self, position):
        return self.roles[position].enters or self.roles[position].inside

    def _blocks(self, position):
        """Returns whether a node does not fit but has neighbors that do."""
        if self._fits(position) or self.roles[position].leaves:
            return False
        readers = [self.roles[i] for i in self.readers[position]]
        behind = any(reader.inside or reader.leaves for reader in readers)
        return behind or any(map(self._fits, self.sources[position]))

    def _mixed_up(self, position):
        if self.roles[position].leaves:
            return "reduces other axes than rows and columns", "Reduce axes 1 and 2."
        if not self.readers[position]:
            return MIXED_UP, END
        first = self.readers[position][0]
        return f"{MIXED_UP}: {self._title(first)}", self.roles[first].advice or END

    def _why_not(self, position, part, own):
        """Returns the reason why sparse kernels do not run a node, and what to change."""
        if self.roles[position].reason:
            return self.roles[position].reason, self.roles[position].advice
        layout = part.layout
        if own in layout.broken:
            return self._follows(position), ""
        if not part.is_stored_sparse:
            return "the weights are stored dense", 'Export with `storage="sparse"`.'
        if not layout.has_end:
            return NO_END, END
        if own in layout.misread:
            return "has an output that is also read with channels last", END
        if layout.leader(own) is None:
            return "is connected to a value that is also read with channels last", ""
        zeros, size = layout.zeros.get(layout.leader(own), (0, 0))
        if 3 * zeros > 2 * size:
            return "computes with channels last", ""
        reason = f"{zeros:,} of {size:,} weights of the 1x1 convolutions around it are zero"
        return f"{reason}, not more than 2/3", "Prune the 1x1 convolutions to 70% or more."

    def _follows(self, position):
        part = self.parts[self.nodes[position].part]
        broken = {part.positions[i] for i in part.layout.broken}
        for i in self.sources[position]:
            if i in broken or not self._fits(i):
                return f"follows {self._title(i)}"
        return "reads an input of the network"
