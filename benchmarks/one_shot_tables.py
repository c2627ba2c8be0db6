"""The table of pruning without training, from the recorded results."""

import record
from markdown import table

SPARSITIES = (0.8, 0.9, 0.95)
SCOPES = {"equal": "equal layers", "global": "global layers"}


def one_shot():
    """Returns the table of scores and shares of zeros in the layers, before and after repair."""
    means = record.read("one_shot_mnist")["results"]["means"]
    rows = []
    for scores in ("magnitude", "obs", "wanda"):
        for scope, text in SCOPES.items():
            cells = [
                f"{means[f'{scores} {scope} {sparsity} {state}']:.2f}"
                for sparsity in SPARSITIES
                for state in ("pruned", "repaired")
            ]
            rows.append([f"`{scores}`, {text}", *cells])
    head = [f"{s:.0%} zeros{after}" for s in SPARSITIES for after in ("", ", repaired")]
    return table(["scores", *head], rows)
