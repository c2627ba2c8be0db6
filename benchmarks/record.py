"""Writes the result of a benchmark, with the information to judge and repeat it."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform

RESULTS = pathlib.Path(__file__).parent / "results"
PACKAGES = (
    "tf_lottery",
    "keras",
    "keras-hub",
    "tensorflow",
    "jax",
    "torch",
    "numpy",
    "tensorflow-model-optimization",
    "torch-pruning",
    "torchvision",
)


def write(name, settings, results, packages=()):
    """Writes `results/NAME.json`.

    Args:
        name: String, the benchmark.
        settings: Dict of the arguments and seeds.
        results: The measurements, in a form that JSON can store.
        packages: Names of other packages whose versions matter. Defaults to none.
    """
    record = {
        "benchmark": name,
        "date": datetime.date.today().isoformat(),
        "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
        "versions": {"python": platform.python_version(), **_versions(packages)},
        "hardware": {"cpu": _cpu(), "cores": len(os.sched_getaffinity(0))},
        "settings": settings,
        "results": results,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


def update(name, settings, results):
    """Writes a record in which these results replace those of the same names, each with its date.

    Args:
        name: String, the benchmark.
        settings: Dict of the arguments and seeds.
        results: Dict of names to dicts.
    """
    kept = read(name) if (RESULTS / f"{name}.json").exists() else {"results": {}, "date": None}
    dated = {key: {"date": kept["date"], **value} for key, value in kept["results"].items()}
    today = datetime.date.today().isoformat()
    dated |= {key: {"date": today, **value} for key, value in results.items()}
    write(name, settings, dated)


def read(name):
    """Returns the record of a benchmark."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def _versions(others):
    versions = {}
    for package in (*PACKAGES, *others):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _cpu():
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
