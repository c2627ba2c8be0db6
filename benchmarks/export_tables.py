"""The tables and sentences about exports, from the recorded results."""

import record
from markdown import percent, table

NETWORKS = {
    "lenet": "LeNet-300-100",
    "vgg": "VGG-like, 32 px",
    "mobilenet": "MobileNet-v1",
    "gru": "GRU, 128 units",
    "transformer": "transformer block",
}
PEER_NETWORKS = {
    "mlp": "MLP",
    "lenet": "LeNet-300-100",
    "vgg": "CNN",
    "mobilenet": "MobileNet-v1",
    "lstm": "LSTM",
    "transformer": "transformer block",
}
# Seven kinds of networks at six sparsities in four patterns, which are one without zeros.
GRID_NETWORKS = 7 * (6 * 4 + 1)
# Outputs that differ from Keras by this fraction of the largest one are not those of the network.
WRONG = 0.2
PRECISIONS = {
    None: "float32",
    "float16": "float16",
    "weight_int8": "8-bit weights",
    "dynamic_int8": "dynamic int8",
    "int8": "full int8",
    "int16x8": "int8, 16-bit activations",
}


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


def export_sizes():
    """Returns the table of file sizes at 90% sparsity."""
    found = record.read("export_sizes")["results"]
    rows = []
    for family, name in NETWORKS.items():
        row = {
            case["quantize"]: case
            for case in found
            if (case["family"], case["sparsity"], case["trained"]) == (family, 0.9, True)
        }
        floats = row[None]
        sizes = [floats["dense_bytes"], *(row[p]["num_bytes"] for p in (None, "float16"))]
        sizes += [row["weight_int8"]["num_bytes"], floats["stock"]["num_bytes"]]
        ratio = f"{floats['num_bytes'] / floats['floor_bytes']:.2f}"
        rows.append([name, *(f"{size / 1e3:,.0f}" for size in sizes), ratio])
    head = ["kB, 90% zeros", "dense float32", "float32", "float16", "8-bit weights"]
    return table([*head, "TensorFlow's converter", "float32 / least possible"], rows)


def export_grid():
    """Returns the table of the outcomes of the grid of calls."""
    results = record.read("export_grid")["results"]
    rows = [
        [
            PRECISIONS[row["quantize"]],
            str(row["calls"]),
            str(row["files"]),
            str(row["refused_before_conversion"]),
            str(row["refused_after_running"]),
            f"{row['worst_difference']:.0e}",
            str(row["above_tolerance"]),
        ]
        for row in results["summary"]
    ]
    head = ["precision", "exports", "files written", "refused at once", "refused after running"]
    head += ["largest difference on new inputs", "above the tolerance"]
    families = len({cell["family"] for cell in results["cells"]})
    patterns = len({cell["pattern"] for cell in results["cells"]})
    networks = max(row["calls"] for row in results["summary"])
    return (
        f"{families} kinds of networks in {patterns} patterns at 0 to 99% zeros, {networks} of the "
        f"{GRID_NETWORKS} networks of the grid. Each file that "
        "was written was run once more, in the default interpreter and without delegates, on "
        "inputs that the export had not seen; differences are fractions of the largest output.\n\n"
        f"{table(head, rows)}"
    )


def export_latency():
    """Returns the table of the latency of block-sparse dense layers."""
    results = record.read("export_latency")["results"]
    rows = [
        [
            f"{case['sparsity']:.0%} zeros, `{case['pattern']}`"
            if case["sparsity"]
            else "no zeros",
            PRECISIONS[case["quantize"]],
            str(case["rows"]),
            f"{case['num_bytes'] / 1e3:,.0f}",
            f"{case['ratio']:.2f}",
        ]
        for case in results["cases"]
    ]
    head = ["dense layer 1024 x 1024", "precision", "rows of inputs", "kB", "time / dense float32"]
    compacted = [
        f"{case['compacted_parameters'] / case['parameters']:.0%} and {case['ratio']:.2f} at "
        f"{case['sparsity']:.0%}"
        for case in results["compacted"]
    ]
    return (
        f"{table(head, rows)}\n\nParameters that `tfl.compact` keeps of LeNet-300-100, pruned "
        "layer by layer, inputs selected too, and the time of the dense-stored file as a fraction "
        f"of the original's: {', '.join(compacted)} zeros."
    )


def xnnpack_arm():
    """Returns the sentence about the instructions on ARM."""
    found = record.read("xnnpack_arm")["results"]
    ratios = [
        f"{case['ratio']:.2f} at {float(sparsity):.0%}"
        for sparsity, case in found["mobilenet"].items()
        if case["verdict"] == "sparse"
    ]
    cases = [case for group in found.values() for case in group.values()]
    broken = sum(case["verdict"] == "broken" for case in cases)
    agreeing = sum(case["agrees"] for case in cases)
    return (
        "Instructions that MobileNet-v1 with symmetric padding executes on (emulated) 64-bit ARM, "
        f"as a fraction of the dense file's: {', '.join(ratios)} zeros. For {agreeing} of "
        f"{len(cases)} networks run so, the report said beforehand what happened; {broken} of them "
        "are right on a PC, but wrong or not loaded on ARM when stored sparse."
    )


def export_micro():
    """Returns the table of files for microcontrollers at 90% zeros."""
    found = record.read("export_micro")["results"]
    names = {
        "lenet": "LeNet-300-100",
        "cnn": "two convolutions, 28 px",
        "ds_cnn": "DS-CNN, spoken commands",
        "resnet_8": "ResNet-8, 32 px",
        "mobilenet_0.25": "MobileNet-v1 0.25, 96 px",
        "autoencoder": "autoencoder, 640 inputs",
    }
    rows = []
    for family, name in names.items():
        cases = {(r["sparsity"], r["pattern"]): r for r in found if r["family"] == family}
        shown = [cases[0.0, "unstructured"], cases[0.9, "unstructured"], cases[0.9, "channel"]]
        sizes = [
            f"{case['num_bytes'] / 1e3:,.0f} + {case['arena_bytes'] / 1e3:,.0f}" for case in shown
        ]
        steps = max(case["micro_steps"] for case in cases.values())
        rows.append([name, *sizes, f"{steps:d}"])
    head = ["kB of file + memory, int8", "dense", "90% zeros", "90% zeros in channels"]
    return table([*head, "largest difference from LiteRT, steps"], rows)


def export_public_files():
    """Returns the sentence about the files of other makers."""
    found = record.read("export_public_files")["results"]
    pruned = [case["pruned"]["result"] for case in found]
    smaller = [case for case in found if case["pruned"]["result"] == "the same outputs"]
    ratios = sorted(case["pruned"]["num_bytes"] / case["num_bytes"] for case in smaller)
    return (
        f"{len(found)} files of other makers, from {len({case['package'] for case in found})} "
        f"Python packages: all are read. With 80% of their weights set to zero, "
        f"{pruned.count('the same outputs')} get smaller, to {ratios[len(ratios) // 2]:.2f} of "
        "their bytes in the median, and compute the same outputs; "
        "those that do not run in LiteRT stay as they are: "
        f"{pruned.count('does not run here')}."
    )


def export_peers():
    """Returns the table of the files of other exporters, and which of them failed."""
    found = record.read("export_peers")["results"]
    rows, failures = [], []
    for cases in zip(*found.values(), strict=True):
        name = cases[0]["name"]
        rows.append([name, *map(_peer_cell, cases)])
        failed = [PEER_NETWORKS[n] for n, c in zip(found, cases, strict=True) if "refused" in c]
        failures += [f"{name} ({', '.join(failed)})"] if failed else []
    head = ["kB / microseconds", *(PEER_NETWORKS[network] for network in found)]
    text = table(head, rows)
    return f"{text}\n\nNot made or not run: {'; '.join(failures)}." if failures else text


def _peer_cell(row):
    if "refused" in row:
        return "fails"
    size, microseconds = row["num_bytes"] / 1e3, row["microseconds"]
    time = f"{microseconds:,.0f}" if microseconds >= 10 else f"{microseconds:.1f}"
    wrong = "" if row["difference"] < WRONG else ", wrong"
    return f"{size:,.0f} / {time}{wrong}"


def quantization_aware():
    """Returns the table of the accuracy of full int8 files, rounded after training and in it."""
    networks = {"lenet-300-100": "LeNet-300-100", "conv-4-norms-small": "Conv-4 with norms"}
    cases = {"plain": "as trained", "rescaled": "channels rescaled"}
    rows = [
        [
            networks[row["model"]],
            cases[row["case"]],
            *(
                percent(row[name])
                for name in (
                    "float",
                    "int8",
                    "float_after_float_fine_tuning",
                    "int8_after_float_fine_tuning",
                    "int8_after_rounded_fine_tuning",
                )
            ),
        ]
        for row in record.read("quantization_aware")["results"]["summary"]
    ]
    return table(
        [
            "network",
            "channels",
            "float",
            "int8",
            "float, trained on",
            "int8, trained on in float",
            "int8, trained on with rounding",
        ],
        rows,
    )
