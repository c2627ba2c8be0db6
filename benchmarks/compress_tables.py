"""The table of compressed networks, from the recorded results."""

import record
from markdown import table

TASKS = {
    "mnist": "LeNet-300-100, MNIST",
    "fashion_mnist": "small Conv-4 with norms, Fashion-MNIST",
    "gestures": "Conv1D, gestures of a watch",
}


def compressed():
    """Returns the table of what was asked, the recommended files, and how they did on test data."""
    rows = []
    for key, name in TASKS.items():
        found = record.read(f"compress_{key}")
        results, asked = found["results"], found["settings"]
        best = next(file for file in results["files"] if file["name"] == results["best"])
        test = results["test"]
        rows.append(
            [
                name,
                f"{results['budget']['bytes']:,} bytes, {100 * results['max_drop']:g} points",
                str(asked["finetune"] or "none"),
                f"`{best['name'].removesuffix('.tflite')}`",
                f"{best['num_bytes']:,}",
                f"{100 * test['dense']:.2f}",
                f"{100 * test['chosen']:.2f} ± {100 * test['standard_error']:.2f}",
                f"{results['seconds']:.0f}",
            ]
        )
    head = ["task", "budget, allowed loss", "epochs", "file", "bytes"]
    head += ["accuracy of the model", "of the file", "seconds"]
    return table(head, rows)
