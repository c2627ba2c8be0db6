"""The results on the recipe pages, from the recorded results."""

import record
from comparison_cells import find_case
from markdown import percent, spread, table

METHODS = {
    "dense": "dense",
    "static": "fixed random masks",
    "set": "SET",
    "rigl": "RigL",
    "gmp": "gradual pruning",
}


def recipe_mnist():
    """Returns the accuracies of networks of 2% of the weights, and of tickets."""
    rows = _methods("dynamic_mnist", 0.98, "test_accuracy", percent)
    found = record.read("lottery_mnist")["results"]["summary"]
    for level in ("7", "13"):
        accuracy = percent(found["ticket_test_accuracy"][level])
        rows.append([f"lottery ticket, {found['density'][level]:.1%} of the weights", accuracy])
    return table(["network", "test accuracy"], rows)


def recipe_cifar10():
    """Returns the accuracy and cost of a small ResNet with half of its FLOPs."""
    found = record.read("channels_cifar10")["results"]["summary"]
    names = {
        ("dense", None): "dense",
        ("dense_longer", None): "dense, trained on for as many steps",
        ("taylor", "one_shot"): "channels by Taylor scores, at once",
        ("norm_scale", "one_shot"): "channels by norm scale, at once",
    }
    rows = []
    for (case, way), name in names.items():
        row = next(row for row in found if (row["case"], row["way"]) == (case, way))
        left = [f"{row[key]['mean']:.2f}" for key in ("flops_left", "parameters_left")]
        rows.append([name, *left, spread(**row["test_accuracy"])])
    return table(["network", "FLOPs left", "parameters left", "test accuracy"], rows)


def recipe_watch():
    """Returns the sentence about the file for a watch."""
    found = record.read("compress_gestures")
    results, test = found["results"], found["results"]["test"]
    best = next(file for file in results["files"] if file["name"] == results["best"])
    return (
        f"Recorded: {len(results['files'])} files were made in {results['seconds']:.0f} seconds of "
        f"one core. The recommended one, `{best['name']}`, has {best['num_bytes']:,} bytes. On "
        f"{test['examples']:,} test examples of wearers that no part of the search had seen it is "
        f"{percent(test['chosen'])}% accurate (± {percent(test['standard_error'])}), the trained "
        f"model with {results['parameters']:,} parameters {percent(test['dense'])}%."
    )


def recipe_shakespeare():
    """Returns the table of the GRU that reads characters."""
    rows = _methods("dynamic_shakespeare", 0.75, "test_bits_per_character", "{:.3f}".format)
    return table(["network", "bits a character"], rows)


def recipe_hub():
    """Returns what half of the channels leaves of keras-hub's networks."""
    found, rows = record.read("channel_groups")["results"], []
    for key, name in (("vit", "ViT"), ("bert", "BERT")):
        case = found[f"{key}/1"]
        left = [f"{case[value]:.1%}" for value in ("parameters_left", "flops_left")]
        difference = f"{case['difference']:.0e}" if case["difference"] else "0"
        rows.append([name, f"{case['parameters']:,}", *left, difference])
    head = ["small network", "parameters", "parameters left", "FLOPs left"]
    return table([*head, "largest difference / largest output"], rows)


def _methods(benchmark, sparsity, key, form):
    summary, rows = record.read(benchmark)["results"]["summary"], []
    for method, name in METHODS.items():
        asked = None if method == "dense" else sparsity
        found = find_case(summary, method=method, sparsity=asked, length=1)
        if found is not None:
            text = name if method == "dense" else f"{name}, {1 - sparsity:.0%} of the weights"
            rows.append([text, spread(**found[key], form=form)])
    return rows
