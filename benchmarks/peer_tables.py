"""The tables of accuracies beside other libraries, from the recorded results."""

import statistics

import record
from comparison import Case
from comparison_cells import accuracy_cell, difference_cell
from markdown import table

GRADUAL = {
    "lenet-300-100": "MNIST, LeNet-300-100",
    "conv-4-norms-small": "CIFAR-10, 16 px, Conv-4 with norms",
}


def peer_gates_mnist():
    """Returns the table of tickets by gates, here and in PQuantML."""
    results = record.read("peer_gates_mnist")["results"]
    rows = []
    for sparsity in sorted({row["sparsity"] for row in results["rows"]}):
        ours, peer = Case("cs", sparsity), Case("pquant-ml", sparsity)
        cells = [
            accuracy_cell(results["summary"], method=case.method, sparsity=sparsity)
            for case in (peer, ours)
        ]
        densities = [row["density"] for row in results["rows"] if row["sparsity"] == sparsity]
        difference = difference_cell(results["differences"], ours, peer)
        rows.append([f"{statistics.mean(densities):.2%}", *cells, difference])
    return table(["density", "PQuantML", "here", "difference"], rows)


def peer_gradual():
    """Returns the table of gradual pruning, here and in TFMOT."""
    rows = []
    for network, results in record.read("peer_gradual")["results"].items():
        for sparsity in sorted({row["sparsity"] for row in results["rows"]}):
            cells = [accuracy_cell(results["summary"], method="tfmot", sparsity=sparsity)]
            for method in ("gmp_by_kernel", "gmp"):
                cells.append(accuracy_cell(results["summary"], method=method, sparsity=sparsity))
                pair = Case(method, sparsity), Case("tfmot", sparsity)
                cells.append(difference_cell(results["differences"], *pair))
            rows.append([f"{GRADUAL[network]}, {sparsity:.0%}", *cells])
    rankings = ["here, each kernel ranked by itself", "difference"]
    rankings += ["here, all weights together", "difference"]
    return table(["network, zeros", "TFMOT", *rankings], rows)
