"""What a step of training costs, from the recorded results."""

import record
from markdown import table

MODELS = {
    "lenet_300_100": "LeNet-300-100, batch 128",
    "resnet_20": "ResNet-20, batch 128",
    "mobilenet": "MobileNet 96 px, batch 16",
}


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
    return table(["masked step / dense step", *records, "TFMOT, TensorFlow"], rows)


def rigl_cost():
    """Returns the sentences about the cost of RigL."""
    results = {
        name: record.read(f"rigl_cost_{backend}")["results"]
        for name, backend in (("TensorFlow", "tensorflow"), ("JAX", "jax"))
    }
    ratios = [
        f"{name} {found[key]['rigl_to_masked']:.2f}"
        for key, name, found in (
            ("lenet_300_100", "LeNet-300-100 on TensorFlow", results["TensorFlow"]),
            ("lenet_300_100", "on JAX", results["JAX"]),
            ("resnet_20", "ResNet-20 on TensorFlow", results["TensorFlow"]),
        )
    ]
    update = results["TensorFlow"]["resnet_50_update"]
    return (
        "A step of RigL with an update every 100 steps takes, in times of a step with fixed masks "
        f"at batch 128: {', '.join(ratios)}. An update of ResNet-50's "
        f"{update['num_weights'] / 1e6:.1f} million weights takes {update['seconds']:.1f} seconds."
    )


def gate_cost():
    """Returns the sentence about the cost of gates."""
    results = {
        name: record.read(f"gate_cost_{file}")["results"]
        for name, file in (
            ("TensorFlow", "tensorflow"),
            ("with XLA", "tensorflow_jit"),
            ("JAX", "jax"),
        )
    }
    lenet, resnet = (
        [f"{name} {found[key]['ratio']:.2f}" for name, found in results.items() if key in found]
        for key in ("lenet_300_100", "resnet_20")
    )
    lenets = {name: found["lenet_300_100"] for name, found in results.items()}
    idle = [found["idle_ratio"] for found in lenets.values()]
    # Older records have no ratio of the two in pairs.
    on_top = [
        f"{name} {found.get('gated_to_idle', found['ratio'] / found['idle_ratio']):.2f}"
        for name, found in lenets.items()
    ]
    return (
        f"A step with gates takes, in times of a plain step at batch 128: ResNet-20 "
        f"{', '.join(resnet)}; LeNet-300-100 {', '.join(lenet)}, of which Adam's work on twice the "
        f"weights alone makes {min(idle):.2f} to {max(idle):.2f}. In times of a step with these "
        f"additional weights: {', '.join(on_top)}."
    )


def peer_step_cost():
    """Returns the sentence about the cost of gates in another library."""
    found = record.read("peer_step_cost_tensorflow")["results"]
    here, peer = (
        f"{found[name]['ratio']:.2f} times as long as a plain step ({low:.2f} to {high:.2f})"
        for name in ("tf_lottery", "pquant-ml")
        for low, high in [found[name]["ratio_quartiles"]]
    )
    version = found["pquant-ml"]["versions"]["pquant-ml"]
    return (
        f"On TensorFlow, with LeNet-300-100 at batch 60, a step with gates takes {here}; in "
        f"PQuantML {version}, measured in turns with it, {peer}. In brackets are the quartiles "
        "over pairs of runs."
    )
