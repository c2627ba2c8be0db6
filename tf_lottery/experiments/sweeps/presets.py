"""Sweeps that are ready to run: all families of methods, and the smallest such comparison."""

from typing import Any

from tf_lottery.checks import choice

# `"retrained"` is the ticket of `"imp"`, trained again with all tweaks that fit.
COMPARED = (
    "dense",
    "static",
    "set",
    "rigl",
    "snip",
    "synflow",
    "gmp",
    "imp",
    "cs",
    "retrained",
)
DEMONSTRATED = ("dense", "rigl", "imp", "cs", "retrained")
# The settings of each data set, and in a quick comparison those that differ.
_SETTINGS: dict[str, dict] = {
    "digits": {"epochs": 30, "steps_per_epoch": 19, "learning_rate": 3e-3},
    "mnist": {"epochs": 5, "steps_per_epoch": 916},
    "cifar10": {
        "epochs": 10,
        "steps_per_epoch": 750,
        "image_size": 16,
        "normalize": True,
        "augment": "flip,shift",
    },
}
_QUICK: dict[str, dict] = {
    "digits": {"epochs": 10},
    "mnist": {"epochs": 1, "steps_per_epoch": 600},
    "cifar10": {"epochs": 1, "steps_per_epoch": 600},
}
DATASETS = tuple(_SETTINGS)
_SPARSITIES, _SEEDS = (0.9, 0.95, 0.98), 3
_QUICK_SPARSITY = 0.95
# A search prunes a fifth of the weights per level, as in its paper, or more if it must be quick.
_RATE, _QUICK_RATE = 0.2, 0.5


def comparison(
    dataset: str = "digits",
    *,
    methods: tuple[str, ...] = COMPARED,
    sparsity: list[float] | None = None,
    quick: bool = False,
    epochs: int | None = None,
    seeds: int | None = None,
    export: str = "float32",
    data_dir: str | None = None,
    download: bool = False,
) -> dict[str, Any]:
    """Returns the sweep that compares all families of methods, as a dict for `Sweep.from_dict`.

    Every training has as many epochs; a search has many trainings, whose cost is in the table.
    Both searches rewind to the same step, and all methods reach the same density exactly.

    Args:
        dataset: `"digits"`, `"mnist"` or `"cifar10"`, at 16 of its 32 pixels. Defaults to
            `"digits"`.
        methods: Tuple of names in `COMPARED`. Defaults to all.
        sparsity: List of floats in (0, 1). Defaults to `None`: 0.9, 0.95 and 0.98, or 0.95.
        quick: Boolean, whether one sparsity, one seed, few epochs and large steps of the search
            are enough. Defaults to `False`.
        epochs: Integer, the length of a training, a level or a round. Defaults to `None`: one that
            suits the data.
        seeds: Integer, how many. Defaults to `None`: 3, or 1.
        export: String, the precision of the files, a name in `exporting.PRECISIONS`. Defaults to
            `"float32"`.
        data_dir: Folder of TensorFlow Datasets. Defaults to `None`: its usual one.
        download: Whether TensorFlow Datasets may download what is missing. Defaults to `False`.

    Raises:
        ValueError: If a name is unknown.

    Example:

    >>> from tf_lottery.experiments.sweeps import Sweep
    >>> spec = comparison(methods=("dense", "imp", "retrained"), quick=True)
    >>> [run.name for run in Sweep.from_dict(spec).runs]
    ['dense_seed-0', 'imp_sparsity-0.95_seed-0', 'imp_sparsity-0.95_seed-0_retrained']
    """
    for method in methods:
        choice("methods", method, COMPARED)
    common = _common(dataset, quick, epochs, data_dir, download)
    common["seed"] = list(range(seeds or (1 if quick else _SEEDS)))
    common["sparsity"] = list(sparsity or ([_QUICK_SPARSITY] if quick else _SPARSITIES))
    cases = [_case(m, methods, common, quick) for m in COMPARED if m in methods]
    return {**common, "export": export, "cases": [case for case in cases if case]}


def demonstration(
    dataset: str = "digits", *, data_dir: str | None = None, download: bool = False, seed: int = 0
) -> dict[str, Any]:
    """Returns the smallest comparison, one network of each family, as a dict for `Sweep.from_dict`.

    The ticket is trained again, and the file of this network has 8-bit weights.

    Args:
        dataset: String; see `comparison`.
        data_dir: Folder; see `comparison`.
        download: Boolean; see `comparison`.
        seed: Integer. Defaults to `0`.

    Example:

    >>> from tf_lottery.experiments.sweeps import Sweep
    >>> [run.export for run in Sweep.from_dict(demonstration()).runs]
    ['float32', 'float32', 'float32', 'float32', 'weight_int8']
    """
    spec = comparison(
        dataset, methods=DEMONSTRATED, quick=True, data_dir=data_dir, download=download
    )
    (search,) = (case for case in spec["cases"] if "retrain" in case)
    search["retrain"] = {**search["retrain"], "export": "weight_int8"}
    return {**spec, "seed": seed}


def _common(dataset, quick, epochs, data_dir, download):
    choice("dataset", dataset, DATASETS)
    found = {"dataset": dataset, **_SETTINGS[dataset], **(_QUICK[dataset] if quick else {})}
    given = {"epochs": epochs, "data_dir": data_dir, "download": download or None}
    return found | {name: value for name, value in given.items() if value is not None}


def _case(method, methods, common, quick):
    """Returns the settings of a method, or an empty dict if another one's case has its runs."""
    epochs, steps = common["epochs"], common["steps_per_epoch"]
    # Early in the training, and the same step for both searches.
    rewind = {"rewind_to_step": min(2, epochs - 1) * steps}
    if method == "cs":
        # As in the official code, SGD trains the gates.
        return {"method": "cs", "exact_density": True, "gate_learning_rate": 0.1, **rewind}
    if method not in ("imp", "retrained"):
        return {"method": method}
    if method == "retrained" and "imp" in methods:
        return {}
    again = {"retrain": {"tweaks": "all"}} if "retrained" in methods else {}
    return {"method": "imp", "rate": _QUICK_RATE if quick else _RATE, **rewind, **again}
