"""What a sweep trains: a file or dict of settings, and the runs that it names."""

import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import re
import tomllib
from typing import Any, Self

from tf_lottery import extras
from tf_lottery.experiments import exporting, methods
from tf_lottery.experiments.own_network import is_file
from tf_lottery.experiments.sweeps.data_keys import DATA, data_arguments
from tf_lottery.experiments.sweeps.retrained import ONLY_RETRAINED, check_variants, retrained_runs
from tf_lottery.experiments.sweeps.run import KINDS, Run
from tf_lottery.experiments.sweeps.values import check_key, convert, text_of

# The settings that name a folder also if all runs have the same.
_ALWAYS_NAMED = ("method", "control", "sparsity", "target_density")
# Settings whose values are names.
_NAMES = {"method": methods.METHODS, "export": exporting.PRECISIONS}
# File systems allow 255 bytes.
_LONGEST_NAME = 150


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The runs of a sweep.

    A sweep is written as a YAML, JSON or TOML file, or as a dict. Its keys are the arguments of
    `TrainSettings`, with `rate` in place of `levels` if you like, and of `data.load`, whose
    `name` is `dataset`, and `seed`. In place of `dataset`, `data` names the user's own, with
    `validation_data`, `test_data`, `label_column`, `pixel_range` and `import`, as on the command
    line. A list of values stands for a run with each of them, and names
    of one value are separated by commas, as in `augment: flip,shift`. A list under `cases` holds
    dicts of settings that replace or add to the common ones:

        dataset: digits
        sparsity: [0.9, 0.95]
        seed: [0, 1, 2]
        epochs: 10
        cases:
          - method: [static, rigl, gmp]
          - {method: imp, epochs: 2}

    A method takes the common settings that it uses: `"dense"` has one run per seed here. For
    `"cs"` a `sparsity` stands for the `target_density` of the others' density. With
    `run: retrain` the keys are the arguments of `RetrainSettings`, `ticket` and `teacher`, the
    paths of files.

    With `export`, a name in `exporting.PRECISIONS`, a file is written after every training, and
    measured. Tickets of `"imp"` and `"cs"` are trained again if `retrain` is a dict, or a list of
    dicts, of arguments of `RetrainSettings` and `export`; others are those of the search:

        cases:
          - {method: [static, gmp], export: float32}
          - {method: imp, retrain: {tweaks: all, export: weight_int8}}

    Args:
        runs: Tuple of `Run`, in the order in which they start.

    Example:

    >>> sweep = Sweep.from_dict({"method": ["set", "dense"], "sparsity": [0.8, 0.9], "seed": 3})
    >>> [run.name for run in sweep.runs]
    ['set_sparsity-0.8_seed-3', 'set_sparsity-0.9_seed-3', 'dense_seed-3']
    """

    runs: tuple[Run, ...]

    @classmethod
    def from_file(cls, path) -> Self:
        """Reads a sweep from a `.yaml`, `.json` or `.toml` file.

        Args:
            path: The file.

        Raises:
            ValueError: If the file is not in its format, or a setting is unknown or wrong.
            OSError: If the file cannot be read.
            ImportError: If it is a YAML file and PyYAML is not installed.
        """
        return cls.from_dict(_read(pathlib.Path(path)))

    @classmethod
    def from_dict(cls, spec: dict[str, Any]) -> Self:
        """Returns the sweep that a dict of settings describes.

        Args:
            spec: Dict, as the class describes it.

        Raises:
            ValueError: If a setting is unknown or wrong.
        """
        spec = dict(spec)
        kind = spec.pop("run", "train")
        check_key("run", kind, tuple(KINDS))
        cases = spec.pop("cases", [{}])
        if not isinstance(cases, list) or not all(isinstance(c, dict) for c in cases) or not cases:
            raise ValueError(
                f"Key `cases` of a sweep must be a list of dicts of settings. Received: {cases!r}"
            )
        types = _types(kind)
        axes = [(_axes(spec, types), _axes(case, types)) for case in cases]
        if kind == "train":
            _check_used(axes)
        chosen = [given for common, case in axes for given in _combinations(kind, common, case)]
        # A method that does not use an axis has several equal runs.
        unique: dict[str, dict] = {}
        retrained: dict[str, list] = {}
        for given in chosen:
            variants = given.pop("retrain", [])
            key = json.dumps(given, sort_keys=True)
            unique.setdefault(key, given)
            retrained.setdefault(key, []).extend(variants)
        runs = []
        for name, key in zip(_names(kind, list(unique.values())), unique, strict=True):
            runs.append(_run(kind, name, unique[key]))
            runs += retrained_runs(runs[-1], retrained[key])
        # A ticket must be there before it is trained again.
        order = sorted(runs, key=lambda run: (run.seed, run.search is not None))
        return cls(tuple(order))

    def varied(self) -> tuple[str, ...]:
        """Returns the names of the settings in which runs differ, without the seed."""
        varied = [key for key in _varied([run.given for run in self.runs]) if key != "seed"]
        # Tables tell a ticket that was trained again by a word beside its method.
        return tuple(dict.fromkeys((*(["method"] if "retrained" in varied else ()), *varied)))


def _read(path):
    suffix = path.suffix.lower()
    errors = (ValueError, RecursionError)
    if suffix in (".yaml", ".yml"):
        extras.require("sweep", "yaml")
        import yaml

        read, errors = yaml.safe_load, (*errors, yaml.YAMLError)
    elif suffix in (".json", ".toml"):
        read = json.loads if suffix == ".json" else tomllib.loads
    else:
        raise ValueError(f"A sweep must be a .yaml, .json or .toml file. Received: {str(path)!r}")
    try:
        spec = read(path.read_text(encoding="utf-8"))
    except errors as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"A sweep must be valid {suffix}. Received: {path}, {reason}") from error
    if not isinstance(spec, dict) or not all(isinstance(key, str) for key in spec):
        raise ValueError(
            f"A sweep must have settings by name, such as `method: rigl`. Received: {path} with "
            f"{str(spec)[:80]!r}"
        )
    return spec


def _types(kind):
    """Returns a dict of the keys of a spec to the types of their values."""
    fields = {field.name: field.type for field in dataclasses.fields(KINDS[kind].settings)}
    others = {"rate": float, "retrain": dict} if kind == "train" else {}
    files = dict.fromkeys(KINDS[kind].needs, str)
    return {**DATA, **fields, **others, **files, "seed": int, "export": str}


def _axes(spec, types):
    """Returns a dict of settings to lists of their values."""
    axes = {}
    for key, values in spec.items():
        check_key("setting", key, (*types, "run", "cases"), is_key=True)
        if key not in types:
            raise ValueError(f"Key `{key}` must not stand inside of `cases`. Received: {values!r}")
        values = values if isinstance(values, list) else [values]
        if not values:
            raise ValueError(f"Key `{key}` of a sweep must have at least one value. Received: []")
        if key == "retrain":
            axes[key] = [check_variants(values)]
            continue
        axes[key] = [convert(key, value, types[key]) for value in values]
        for value in axes[key]:
            if key in _NAMES:
                check_key(key, value, _NAMES[key])
    return axes


def _check_used(axes):
    """Raises a `ValueError` if no method of a sweep, or of a case, uses one of its settings."""
    # Common settings may belong to the methods of any case.
    everywhere = {m for common, case in axes for m in {**common, **case}.get("method", ["gmp"])}
    for common, case in axes:
        merged = {**common, **case}
        here = {*merged.get("method", ["gmp"])}
        for keys, chosen in ((common, everywhere), (case, here)):
            for key in keys:
                if not any(_uses(method, key) for method in chosen):
                    owners = ", ".join(m for m in methods.METHODS if _uses(m, key))
                    raise ValueError(
                        f"Key `{key}` of a sweep is a setting of method {owners}. "
                        f"Received: {key}={keys[key]} with method {', '.join(sorted(chosen))}"
                    )
            # The others of a common sparsity may need it.
            both = {"sparsity", "target_density"} <= {*(merged if everywhere == {"cs"} else keys)}
            if both and chosen == {"cs"}:
                raise ValueError(
                    "Keys `sparsity` and `target_density` of a sweep exclude each other for method "
                    f"cs. Received: sparsity={merged['sparsity']}, "
                    f"target_density={merged['target_density']}"
                )


def _uses(method, key):
    if key == "rate":
        return method == "imp"
    if key == "retrain":
        return method in methods.SEARCHES
    if key == "sparsity" and method == "cs":
        return True
    return key not in methods.ALL_OPTIONS or key in methods.OPTIONS[method]


def _combinations(kind, common, case):
    """Yields a dict of given settings for each run of a case."""
    axes = {**common, **case}
    for method in axes.pop("method", ["gmp"]) if kind == "train" else [None]:
        chosen = {k: v for k, v in axes.items() if method is None or _uses(method, k)}
        chosen.setdefault("seed", [0])
        for values in itertools.product(*chosen.values()):
            given = dict(zip(chosen, values, strict=True))
            given = {key: value for key, value in given.items() if value is not None}
            if method == "cs" and "target_density" in given:
                # The sparsity is that of the other methods.
                given.pop("sparsity", None)
            yield given if method is None else {"method": method, **given}


def _varied(every):
    """Returns the keys that have several values among the runs that use them."""
    keys = dict.fromkeys(key for given in every for key in given)
    values = {
        key: {str(g.get(key)) for g in every if "method" not in g or _is_used(g, key)}
        for key in keys
    }
    return [key for key in keys if len(values[key]) > 1]


def _is_used(given, key):
    if key in ONLY_RETRAINED:
        return "retrained" in given
    return _uses(given["method"], key)


def _names(kind, every):
    """Returns the names of the folders, made of the settings in which runs differ."""
    keys = dict.fromkeys((*_ALWAYS_NAMED, *_varied(every)))
    # A file does not change what is trained.
    named = [key for key in keys if key not in ("method", "seed", "export")]
    names = []
    for given in every:
        parts = [given.get("method", kind)]
        parts += [f"{key}-{text_of(given[key])}" for key in named if key in given]
        text = "_".join([*parts, f"seed-{given['seed']}"])
        name = re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII)
        names.append(name)
    long_or_twice = {n for n in names if len(n) > _LONGEST_NAME or names.count(n) > 1}
    return [
        f"{name[:_LONGEST_NAME]}_{_digest(given)}" if name in long_or_twice else name
        for name, given in zip(names, every, strict=True)
    ]


def _digest(given):
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:8]


def _run(kind, name, given):
    """Returns the `Run` of given settings."""
    options = dict(given)
    seed, export = options.pop("seed"), options.pop("export", None)
    data = data_arguments({key: options.pop(key) for key in DATA if key in options})
    # Processes on other machines have another working folder.
    if is_file(options.get("model") or ""):
        options["model"] = os.path.abspath(options["model"])
    sources = {k: os.path.abspath(options.pop(k)) for k in KINDS[kind].needs if k in options}
    for needed, present in (("ticket", sources), ("model", options)):
        if kind == "retrain" and needed not in present:
            raise ValueError(
                f"Key `{needed}` must be given with `run: retrain`. Received: {sorted(given)}"
            )
    rate = options.pop("rate", None)
    if rate is not None and "levels" in options:
        raise ValueError(
            "Keys `levels` and `rate` of a sweep exclude each other. "
            f"Received: levels={options['levels']}, rate={rate}"
        )
    if options.get("method") == "cs" and "sparsity" in options:
        density = round(1.0 - options.pop("sparsity"), 9)
        options.setdefault("target_density", density)
    if options.get("tweaks") == ("all",):
        options["tweaks"] = None
    settings = KINDS[kind].settings(**options)
    settings = settings.with_rate(rate) if rate is not None else settings
    return Run(name, kind, settings, seed, given, data, sources, export=export)
