"""The table of all families of methods on the digits."""

import record
from markdown import percent, table

from tf_lottery.experiments.sweeps.table import method_of


def compare_digits():
    """Returns the table of `tf-lottery compare --quick`."""
    rows = [
        [
            method_of(group),
            percent(group["density"]["mean"]),
            percent(group["test_accuracy"]["mean"]),
            f"{group['steps']['mean']:,.0f}",
            f"{group['training_flops']['mean']:.1e}".replace("e+0", "e").replace("e+", "e"),
            f"{group['file_bytes']['mean']:,.0f}",
            percent(group["file_accuracy"]["mean"]),
            f"{group['file_milliseconds']['mean']:.2g}",
        ]
        for group in record.read("compare_digits")["results"]["compare"]["summary"]
    ]
    head = ["method", "density", "accuracy", "steps", "training FLOPs"]
    return table([*head, "bytes of the file", "accuracy of the file", "milliseconds"], rows)
