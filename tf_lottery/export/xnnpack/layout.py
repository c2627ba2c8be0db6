"""Finds where XNNPACK switches a network to channels first, and where that goes wrong.

Operators that can compute with channels first form clusters. XNNPACK switches a cluster if more
than 2/3 of the weights of its 1x1 convolutions are zero. It does not check that the cluster
ends in an operator that switches the layout back. If it does not, the next operator reads
channels-first values as channels-last ones.
"""

from tf_lottery.export.xnnpack.rules import multiplies_pixels, reduces_images


class Layout:
    """Finds the nodes of one part of a graph that compute with channels first.

    Follows `xnn_subgraph_rewrite_for_nchw` in src/subgraph.c of XNNPACK, as LiteRT 2.3.0
    runs it. A cluster is identified by the position of one of its nodes, its leader.

    Args:
        nodes: List of `Node` in the order of the file.
        roles: List of their `Role`.
        outputs: Set of the part's output tensors.

    Attributes:
        broken: Set of positions of nodes with an input that no fitting node produces.
        misread: Set of positions of nodes whose output is also read outside of its cluster.
        zeros: Dict of the leaders of valid clusters to their numbers of zeros and weights.
        taken: Set of positions of nodes that compute with channels first.
        wrong: Set of positions of nodes whose outputs are read in the wrong layout.
    """

    def __init__(self, nodes, roles, outputs):
        self.nodes, self.roles, self.outputs = nodes, roles, outputs
        self.producers = {t: i for i, node in enumerate(nodes) for t in node.outputs}
        self.leaders = list(range(len(nodes)))
        self.broken, self.misread = set(), set()
        self.zeros, self.taken, self.wrong = {}, set(), set()
        self.has_end = self._connect([i for i, role in enumerate(roles) if role.leaves])
        if self.has_end:
            self._turn()

    def leader(self, position):
        """Returns the leader of a node's cluster, or `None` if the cluster is excluded."""
        leader = self.leaders[position]
        return None if leader in self._excluded else leader

    def _turn(self):
        reading = [i for i, role in enumerate(self.roles) if role.inside or role.leaves]
        while self._connect(reading):
            pass
        self._excluded = self.broken | {self.leaders[i] for i in self.broken}
        self._exclude_misread(reading)
        self._count_zeros()
        turned = [i for i in reading if self._is_sparse(i)]
        first = {t for i in turned for t in self.nodes[i].inputs}
        entering = [i for i, r in enumerate(self.roles) if r.enters and first & {*self._out(i)}]
        self.taken = {*turned, *entering}
        self.wrong = {i for i in turned if not self._ends_well(i, first)}

    def _connect(self, positions):
        """Joins nodes with their producers; returns whether any cluster grew."""
        grew = False
        for i in positions:
            if i in self.broken:
                continue
            for tensor in self.nodes[i].inputs:
                before = self.producers.get(tensor)
                if before is None or before in self.broken or not self._gives(before):
                    self.broken.add(i)
                elif self.leaders[before] != self.leaders[i]:
                    leader = max(self.leaders[before], self.leaders[i])
                    self.leaders[before] = self.leaders[i] = leader
                    grew = True
        return grew

    def _gives(self, position):
        return self.roles[position].enters or self.roles[position].inside

    def _out(self, position):
        return self.nodes[position].outputs

    def _exclude_misread(self, reading):
        """Excludes clusters with values that operators outside of them read too."""
        fitting, all_readers = {}, dict.fromkeys(self.outputs, 1)
        for node in self.nodes:
            for tensor in node.inputs:
                all_readers[tensor] = all_readers.get(tensor, 0) + 1
        for i in reading:
            if self.leader(i) is not None:
                for tensor in self.nodes[i].inputs:
                    fitting[tensor] = fitting.get(tensor, 0) + 1
        for i in reading:
            if self.leader(i) is not None:
                shared = [t for t in self.nodes[i].inputs if fitting[t] != all_readers[t]]
                if shared:
                    self._excluded.add(self.leaders[i])
                    self.misread.update(self.producers[t] for t in shared)

    def _count_zeros(self):
        for i, node in enumerate(self.nodes):
            leader = self.leader(i)
            if leader is not None and multiplies_pixels(node):
                zeros, size = self.zeros.get(leader, (0, 0))
                weights = node.weights_shape[0] * node.weights_shape[-1]
                self.zeros[leader] = zeros + node.num_zeros, size + weights

    def _is_sparse(self, position):
        zeros, size = self.zeros.get(self.leader(position), (0, 0))
        return 3 * zeros > 2 * size

    def _ends_well(self, position, first):
        node, ends = self.nodes[position], self.roles[position].leaves
        if ends and not reduces_images(node):
            return False
        return ends or any(tensor in first for tensor in node.outputs)
