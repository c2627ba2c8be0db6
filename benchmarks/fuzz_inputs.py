"""Damaged tickets, models, TFLite files, run folders and command lines for `fuzz.py`."""

import io
import json
import pathlib
import random
import shutil
import zipfile

import keras
import numpy as np

import tf_lottery as tfl

# Values that a field of a file may be replaced by.
VALUES = (None, True, -1, 0, 3.5, 1e400, 10**12, 2**70, "", "[/x]", "../x", [], [[]], {}, {"a": 1})
COMMANDS = (
    "train --method rigl --sparsity 0.9 --epochs 1 --batch-size 350",
    "train --method imp --levels 2 --rewind-to-step 3 --epochs 1",
    "train --method cs --target-density 0.2,0.1 --initial-value=-0.1 --mode prune",
    "retrain ticket.npz --tweaks soft-activation,distill --alpha 0.5 --control shuffled-masks",
    "stability ticket.npz --epochs 1 --points 3 --start independent",
    "prune sparse.keras --sparsity 0.9 -o small.keras",
    "summary ticket.npz --json",
    "inspect file.tflite --arm -v --json",
    "sweep spec.json --jobs 1 --slurm --gpus 1",
    "list . --json",
)
WORDS = ("--sparsity", "-1", "nan", "1e400", "", "--", "[/x]", "é", "0" * 400, "--out", "/dev/null")


def make_base(folder):
    """Writes the undamaged files."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(16, "relu", name="hidden"), keras.layers.Dense(3, name="output")]
    model = keras.Sequential([keras.Input((8,)), *layers], name="net")
    sparse = tfl.sparsify(model, 0.5, scores="random", seed=0)
    tfl.Ticket.from_model(sparse, level=2).save(folder / "ticket.npz")
    sparse.save(folder / "sparse.keras")
    if keras.backend.backend() == "tensorflow":
        wide = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64), keras.layers.Dense(8)])
        sparser = tfl.sparsify(wide, 0.9, scores="random", seed=0)
        tfl.export_tflite(sparser, folder / "file.tflite", storage="sparse", runs=1)
    spec = {"method": ["set", "imp"], "sparsity": [0.8, 0.9], "epochs": 1, "learning_rate": 0.1}
    (folder / "spec.json").write_text(json.dumps(spec))


def damaged_bytes(content, rng):
    """Returns changed, cut, lengthened or repeated bytes."""
    content = bytearray(content)
    kind = rng.randrange(4)
    if kind == 0:
        return bytes(content[: rng.randrange(len(content))])
    if kind == 1:
        for _ in range(rng.randint(1, 8)):
            content[rng.randrange(len(content))] = rng.choice([0, 1, 127, 128, 255])
    elif kind == 2:
        start, length = rng.randrange(len(content)), rng.randint(1, 64)
        content[start : start + length] = rng.randbytes(rng.randint(0, 64))
    else:
        start = rng.randrange(len(content))
        content += content[start : start + rng.randint(1, 4096)]
    return bytes(content)


def damaged_json(content, rng):
    """Returns a JSON text in which one value, anywhere, is replaced or missing."""
    tree = json.loads(content)
    places = []

    def visit(node):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                visit(node[key])

    visit(tree)
    node, key = rng.choice(places)
    if rng.random() < 0.2:
        del node[key]
    else:
        node[key] = rng.choice(VALUES)
    return json.dumps(tree)


def damaged_npy(content, rng):
    """Returns an array with another shape or dtype in its header, with the same or fewer bytes."""
    array = np.load(io.BytesIO(content))
    shape = rng.choice([(-1,), (10**10,), (2**40, 2**20), (0,), array.shape + (1,), (1,)])
    dtype = rng.choice([array.dtype.str, "<f8", "|O", "<U9", "|b1", "<M8[s]"])
    header = str({"descr": dtype, "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00v\x00" + header.encode() + content[128:]


def damaged_archive(content, rng):
    """Returns a zip archive of which one member is damaged, missing or exchanged."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    if name.endswith(".json"):
        members[name] = damaged_json(members[name], rng).encode()
    elif name == "tf_lottery.npy":
        header = str(np.load(io.BytesIO(members[name])))
        file = io.BytesIO()
        np.save(file, np.array(damaged_json(header, rng)))
        members[name] = file.getvalue()
    elif name.endswith(".npy") and rng.random() < 0.5:
        members[name] = damaged_npy(members[name], rng)
    elif rng.random() < 0.3:
        del members[name]
    elif rng.random() < 0.3:
        members[name] = members[rng.choice(list(members))]
    else:
        members[name] = damaged_bytes(members[name] or b"x", rng)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as new:
        for name, data in members.items():
            new.writestr(name, data)
    return file.getvalue()


def damaged_file(path, rng):
    """Damages a file in one of the ways that fit its kind."""
    content = path.read_bytes()
    kinds = {".npz": damaged_archive, ".keras": damaged_archive}
    if path.suffix in kinds and rng.random() < 0.7:
        content = kinds[path.suffix](content, rng)
    elif path.suffix == ".json" and rng.random() < 0.7:
        content = damaged_json(content, rng).encode()
    else:
        content = damaged_bytes(content or b"{}", rng)
    path.write_bytes(content)


def ticket(base, folder, rng):
    """Returns commands for a damaged ticket."""
    shutil.copy(base / "ticket.npz", folder)
    damaged_file(folder / "ticket.npz", rng)
    return [["summary", "ticket.npz"], ["retrain", "ticket.npz", "--model", "lenet-300-100"]]


def model(base, folder, rng):
    """Returns commands for a damaged model."""
    shutil.copy(base / "sparse.keras", folder)
    damaged_file(folder / "sparse.keras", rng)
    return [["summary", "sparse.keras"]]


def tflite(base, folder, rng):
    """Returns commands for a damaged TFLite file."""
    shutil.copy(base / "file.tflite", folder)
    damaged_file(folder / "file.tflite", rng)
    return [["inspect", "file.tflite", "--arm", "-v"]]


def run_folder(base, folder, rng):
    """Returns commands for the folder of a run of which one file is damaged."""
    name = rng.choice(["gmp", "gmp_begun", "imp_begun", "swept"])
    shutil.copytree(base / name, folder / "run")
    paths = [path for path in (folder / "run").rglob("*") if path.is_file()]
    path = rng.choice([path for path in paths if path.suffix in (".json", ".npz", ".keras")])
    damaged_file(path, rng)
    commands = [["list", "run"]]
    if name == "swept":
        return [*commands, ["sweep", str(base / "spec_of_runs.json"), "--out", "run"]]
    return [*commands, [*run_arguments(name), "--out", "run"]]


def run_arguments(name):
    """Returns the command that made the folder of a run."""
    method = name.partition("_")[0]
    levels = ["--levels", "1"] if method == "imp" else []
    return ["train", "--method", method, *levels, "--epochs", "2", "--batch-size", "500"]


def command_line(base, folder, rng):
    """Returns a command of which some words are exchanged, missing or new."""
    for path in base.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    words = rng.choice(COMMANDS).split()
    others = rng.choice(COMMANDS).split()
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(words) + 1)
        kind = rng.randrange(3)
        new = rng.choice([rng.choice(WORDS), rng.choice(others), str(rng.uniform(-2, 200))])
        if kind == 0:
            words.insert(place, new)
        elif kind == 1 and place < len(words):
            words[place] = new
        elif place < len(words) > 1:
            del words[place]
    return [words]


KINDS = {
    "tickets": ticket,
    "models": model,
    "tflite files": tflite,
    "run folders": run_folder,
    "command lines": command_line,
}


def make(kind, number, seed, base, folder):
    """Writes a damaged input into an empty folder, and returns the commands that read it."""
    return KINDS[kind](
        pathlib.Path(base), pathlib.Path(folder), random.Random(f"{seed} {kind} {number}")
    )
