"""The tables about channels, from the recorded results."""

import record
from channel_networks import NETWORKS
from markdown import percent, table

PEERS = {
    "resnet_20": "ResNet-20, 32 px",
    "vgg_16": "VGG-16 with norms, 32 px",
    "MobileNetV2": "MobileNetV2, 96 px",
    "DenseNet121": "DenseNet-121, 64 px",
}
NAMES = {
    "resnet_20": "ResNet-20",
    "unet": "U-Net with transposed convolutions",
    "squeeze_and_excitation": "ResNet with squeeze-and-excitation",
    "grouped": "ResNet with grouped convolutions",
    "lstm": "LSTM, two layers",
    "gru": "GRU, two layers",
    "bidirectional": "bidirectional LSTM, two layers",
    "siamese": "siamese convolutional network",
    "grouped_attention": "transformer with grouped attention",
    "vit": "ViT of keras-hub",
    "bert": "BERT of keras-hub",
}
SCORES = {
    "dense": "dense",
    "dense_longer": "dense, gone on",
    "l1": "L1 norm",
    "norm_scale": "norm scale",
    "taylor": "Taylor",
    "random": "random",
}
WAYS = {None: "", "one_shot": "at once", "gradual": "gradually"}


def channel_peers():
    """Returns the table of what is left here and with Torch-Pruning."""
    rows = []
    for name, found in record.read("channel_peers")["results"].items():
        cells = [
            f"{found['ratios'][kind][side]:.4f}"
            for kind in ("parameters", "flops")
            for side in ("here", "there")
        ]
        rows.append([PEERS[name], f"{found['dense']['parameters']:,}", *cells])
    head = ["network", "parameters", "left: parameters here", "Torch-Pruning", "FLOPs here"]
    return table([*head, "Torch-Pruning"], rows)


def channel_groups():
    """Returns the table of parameters and FLOPs left, and of differences of the outputs."""
    results = record.read("channel_groups")["results"]
    rows = []
    for name in [name for name in NETWORKS if f"{name}/8" in results]:
        cases = [results[f"{name}/{round_to}"] for round_to in (1, 8)]
        left = [f"{case[key]:.1%}" for key in ("parameters_left", "flops_left") for case in cases]
        difference = max(case["difference"] for case in cases)
        text = f"{difference:.0e}" if difference else "0"
        rows.append([NAMES.get(name, name), str(cases[0]["groups"]), *left, text])
    head = ["network", "groups", "parameters left", "with `channel:8`", "FLOPs left"]
    return table([*head, "with `channel:8`", "largest difference / largest output"], rows)


def channel_latency():
    """Returns the table of the time of TFLite files at half of the channels."""
    rows = []
    for name, found in record.read("channel_latency")["results"]["files"].items():
        cells = [
            f"{found['bytes'][variant] / 1e3:,.0f} kB, {found['ratio'][variant]:.2f}"
            for variant in ("compacted", "compacted_8")
        ]
        dense = f"{found['bytes']['dense'] / 1e3:,.0f} kB, {found['ms']['dense']:.2f} ms"
        rows.append([PEERS[name], dense, *cells])
    head = ["network", "dense file", "half of the channels", "in multiples of 8"]
    return table(head, rows)


def channel_steps():
    """Returns the table of the time of a training step at half of the channels."""
    rows = []
    for name, found in record.read("channel_latency")["results"]["steps"].items():
        cells = [f"{found['ratio'][variant]:.2f}" for variant in ("masked", "compacted")]
        rows.append([f"{PEERS[name]}, batch {found['batch_size']}", *cells])
    return table(["training step / dense step", "with masks", "compacted"], rows)


def channels_cifar10():
    """Returns the table of accuracies at half of the FLOPs."""
    rows = []
    for case in record.read("channels_cifar10")["results"]["summary"]:
        names = [SCORES[case["case"]], WAYS[case["way"]]]
        left = [f"{case[f'{kind}_left']['mean']:.2f}" for kind in ("flops", "parameters")]
        accuracy = f"{_cell(case['test_accuracy'], percent)} ({case['seeds']})"
        is_pruned = case["way"] is not None
        to_random = _cell(case["to_random"], _signed) if is_pruned else ""
        rows.append([*names, *left, accuracy, to_random if case["case"] != "random" else ""])
    head = ["channels by", "pruned", "FLOPs left", "parameters left", "accuracy"]
    return table([*head, "above random"], rows)


def _signed(value):
    return f"{100 * value:+.2f}"


def _cell(found, form):
    """Returns a mean with its deviation over seeds."""
    if found["mean"] is None:
        return ""
    deviation = "" if found["std"] is None else f" ± {percent(found['std'])}"
    return f"{form(found['mean'])}{deviation}"
