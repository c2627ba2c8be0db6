"""Writes the recorded results into the tables of the README.

    python benchmarks/tables.py

Every table stands between the comments `<!-- NAME -->` and `<!-- end -->`.
"""

import pathlib
import re

import record

README = pathlib.Path(__file__).parents[1] / "README.md"
LEVELS = ("0", "3", "5", "7", "9", "11", "13", "15")
MODELS = {
    "lenet_300_100": "LeNet-300-100, batch 128",
    "resnet_20": "ResNet-20, batch 128",
    "mobilenet": "MobileNet 96 px, batch 16",
}


def lottery_mnist():
    """Returns the table of tickets and reinitialized networks."""
    found = record.read("lottery_mnist")["results"]["summary"]
    rows = [
        [
            f"{found['density'][level]:.1%}",
            f"{found['ticket_iteration'][level]:,.0f}",
            f"{found['reinitialized_iteration'][level]:,.0f}" if level != "0" else "",
            f"{found['ticket_test_accuracy'][level]:.2%}",
            f"{found['reinitialized_test_accuracy'][level]:.2%}" if level != "0" else "",
        ]
        for level in LEVELS
    ]
    return _table(
        [
            "density",
            "lowest loss at step: ticket",
            "new weights",
            "accuracy: ticket",
            "new weights",
        ],
        rows,
    )


def step_cost():
    """Returns the table of the cost of a masked step."""
    records = {
        "TensorFlow": "step_cost_tensorflow",
        "TensorFlow, `jit_compile`": "step_cost_tensorflow_jit",
        "JAX": "step_cost_jax",
    }
    results = {name: record.read(file)["results"] for name, file in records.items()}
    rows = []
    for key, model in MODELS.items():
        cells = [f"{results[name][key]['tf_lottery']['ratio']:.2f}" for name in records]
        rows.append([model, *cells, f"{results['TensorFlow'][key]['tfmot']['ratio']:.2f}"])
    return _table(["masked step / dense step", *records, "TFMOT, TensorFlow"], rows)


def export_ticket():
    """Returns the sentence about the exported ticket."""
    found = record.read("export_ticket")["results"]
    report = found["probabilities"]
    zipped = report["gzip_bytes"] / report["dense"]["gzip_bytes"]
    speed = report["latency_ms"] / report["dense"]["latency_ms"]
    return (
        f"The MNIST ticket at {found['density']:.1%} density: {report['num_bytes']:,} bytes, "
        f"{report['ratio']:.2f} times the {report['dense']['num_bytes']:,} of the dense-stored "
        f"file ({zipped:.2f} times after gzip), {speed:.2f} times its latency, at most "
        f"{report['max_difference']:.0e} from Keras in a probability, "
        f"{found['test_accuracy']:.1%} accurate."
    )


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def fill(text):
    """Returns the README's text with all tables as they are recorded."""
    for make in (lottery_mnist, step_cost, export_ticket):
        block = re.compile(rf"(<!-- {make.__name__} -->\n).*?(<!-- end -->)", re.DOTALL)
        content = make()
        text = block.sub(lambda match, c=content: f"{match[1]}{c}\n{match[2]}", text)
    return text


if __name__ == "__main__":
    README.write_text(fill(README.read_text()))
