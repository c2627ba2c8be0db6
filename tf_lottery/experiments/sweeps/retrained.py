"""The runs of a sweep that train the tickets of its other runs again."""

import dataclasses
import itertools
from typing import Any

from tf_lottery.experiments import exporting, retraining, training
from tf_lottery.experiments.sweeps.run import Run
from tf_lottery.experiments.sweeps.values import check_key, convert, text_of

# The network is that of the ticket.
_TYPES = {
    field.name: field.type
    for field in dataclasses.fields(retraining.RetrainSettings)
    if field.name != "model"
}
# Settings that a search does not have.
ONLY_RETRAINED = _TYPES.keys() - {f.name for f in dataclasses.fields(training.TrainSettings)}


def check_variants(values: list) -> list[dict[str, Any]]:
    """Returns the settings of retrainings that a key `retrain` holds, in the types of settings.

    Args:
        values: List of dicts of settings, in which a list stands for a run with each value.

    Raises:
        ValueError: If a setting is unknown or wrong.

    Example:

    >>> check_variants([{"tweaks": ["none", "all"], "epochs": 5}])
    [{'tweaks': (), 'epochs': 5}, {'tweaks': ('all',), 'epochs': 5}]
    """
    variants = []
    for given in values:
        if not isinstance(given, dict):
            raise ValueError(
                "Key `retrain` of a sweep must hold settings by name, such as `tweaks: all`. "
                f"Received: {given!r}"
            )
        axes = {key: _converted(key, each) for key, each in given.items()}
        variants += [
            dict(zip(axes, chosen, strict=True)) for chosen in itertools.product(*axes.values())
        ]
    return variants


def _converted(key, values):
    check_key("retrain", key, (*_TYPES, "export"), is_key=True)
    values = values if isinstance(values, list) else [values]
    if key == "export":
        for value in values:
            check_key(key, value, exporting.PRECISIONS)
        return values
    return [convert(key, value, _TYPES[key]) for value in values]


def retrained_runs(search: Run, variants: list[dict[str, Any]]) -> list[Run]:
    """Returns the runs that train the ticket of a search again.

    Args:
        search: `Run` of a method that finds a ticket.
        variants: List of dicts, as `check_variants` returns them. Settings that are not in a dict
            are those that the search was given. Two that differ in `export` alone are two runs,
            since a folder holds one file.
    """
    varied = [key for key in _TYPES if len({str(given.get(key)) for given in variants}) > 1]
    runs = {}
    for given in variants:
        texts = [f"{key}-{text_of(given[key])}" for key in varied if key in given]
        name = "_".join([search.name, "retrained", *texts])
        export = given.get("export", search.export)
        if name in runs and runs[name].export != export:
            name = f"{name}_export-{export}"
        options = {k: v for k, v in {**search.given, **given}.items() if k in _TYPES}
        if options.get("tweaks") == ("all",):
            options["tweaks"] = None
        model = search.network()
        runs[name] = dataclasses.replace(
            search,
            name=name,
            kind=retraining.KIND,
            settings=retraining.RetrainSettings(model, **options),
            given={**search.given, **given, "retrained": True},
            search=search,
            export=export,
        )
    return list(runs.values())
