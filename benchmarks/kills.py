"""Kills trainings at random moments, starts them again, and compares what they end with.

    python benchmarks/kills.py

Every training of `kills_cases.py` first runs undisturbed. Then it is started, killed by SIGKILL
after a random share of its CPU time, started again by the same call and killed again, up to three
times; at last it may end. What it should show: the same files with the same content, and no others.
`BackupAndRestore` is Keras' own and does not write atomically: a kill while it writes can leave a
backup that Keras cannot read. `Checkpoint` is the library's.

A training is a process that is forked from this one, which has imported TensorFlow but run nothing
with it. A killed benchmark goes on where it stopped, and several can share the trainings by their
names, with `--only`. About a quarter of an hour on one CPU core.
"""

import argparse
import io
import json
import math
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile

import h5py
import kills_cases
import numpy as np
import record
import tensorflow as tf

# The seed of the moments.
SEED = 0
# Starts of a training that may be killed.
MOST_KILLS = 3
PROBLEMS = ("different", "missing", "stray", "error")
# Seconds between the CPU time at which a training is killed and the kill.
LONGEST_DELAY = 0.03


def start(case, folder):
    """Starts a case in a new process, and returns its id. It logs into `FOLDER.log`."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        tf.config.run_functions_eagerly(True)
        kills_cases.CASES[case](folder)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(case, folder, seconds=math.inf, delay=0.0):
    """Runs a case to its end, or kills it.

    Args:
        case: String.
        folder: Path of the folder that it works in.
        seconds: Float, the CPU time after which it is killed, whatever else the machine does.
        delay: Float, seconds to wait then, in which it may also be writing to the disk.

    Returns:
        The exit code, `None` if it was killed, and the CPU time.
    """
    pid = start(case, folder)
    while cpu_seconds(pid) < seconds:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
        time.sleep(0.001)
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    # It may just have ended.
    return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status), seconds


def cpu_seconds(pid):
    """Returns the CPU time of a process, in steps of the system's clock."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def contents(folder):
    """Returns a dict of the paths of all files in a folder to their content, without dates."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): content(path, folder) for path in paths}


def content(path, folder):
    data = path.read_bytes()
    if path.suffix == ".png":
        return "a picture"
    if path.suffix == ".npz":
        return arrays_in(np.load(io.BytesIO(data)))
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            # Keras writes the addresses of shared objects.
            config = re.sub(r'"shared_object_id": \d+', "", archive.read("config.json").decode())
            return [config, h5(archive.read("model.weights.h5"))]
    if ".weights.h5" in path.name:
        return h5(data)
    return data.decode().replace(str(folder), "")


def arrays_in(found):
    return {name: [found[name].dtype.str, found[name].tobytes()] for name in found}


def h5(data):
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item).tobytes()

    with h5py.File(io.BytesIO(data)) as file:
        file.visititems(visit)
    return found


def differences(found, expected):
    """Returns a list of what is not as in the undisturbed training."""
    paths = sorted({*found, *expected})
    where = {(True, False): "stray", (False, True): "missing"}
    return [
        f"{where.get((path in found, path in expected), 'different')}: {path}"
        for path in paths
        if found.get(path) != expected.get(path)
    ]


def trial(case, number, seconds, expected, folder):
    """Kills a training up to three times, and compares the end.

    Returns:
        Dict of `kills`, their number, and `problems`, a list.
    """
    rng, kills, code = random.Random(f"{SEED} {case} {number}"), 0, None
    while code is None:
        moment = rng.uniform(0, seconds) if kills < MOST_KILLS else math.inf
        code, _ = run(case, folder, moment, rng.uniform(0, LONGEST_DELAY))
        kills += code is None
    problems = differences(contents(folder), expected) if code == 0 else [last_line(folder)]
    return {"kills": kills, "problems": problems}


def last_line(folder):
    lines = pathlib.Path(f"{folder}.log").read_text().strip().splitlines()
    return f"error: {lines[-1] if lines else 'no message'}"


def measure(case, kills, done):
    """Makes trials of a case until it was killed often enough; yields all after each.

    Args:
        case: String.
        kills: Integer, how often to kill.
        done: List of dicts of the trials that are made already.
    """
    with tempfile.TemporaryDirectory() as scratch:
        reference = pathlib.Path(scratch, "reference")
        reference.mkdir()
        code, seconds = run(case, reference)
        if code != 0:
            raise RuntimeError(f"{case}: {last_line(reference)}")
        expected = contents(reference)
        while sum(one["kills"] for one in done) < kills:
            folder = pathlib.Path(scratch, f"trial_{len(done)}")
            folder.mkdir()
            done.append(trial(case, len(done), seconds, expected, folder))
            shutil.rmtree(folder)
            yield seconds, done


def summarize(trials):
    return {
        "kills": sum(one["kills"] for one in trials),
        "trials": len(trials),
        "problems": [problem for one in trials for problem in one["problems"]],
    }


def main():
    """Kills every case, and records how often its end was another one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=14, help="of each training")
    parser.add_argument("--runs-dir", default="runs/kills", help="folder of the trials made")
    parser.add_argument("--only", help="part of the name of a training")
    args = parser.parse_args()
    folder = pathlib.Path(args.runs_dir)
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for case in kills_cases.CASES:
        path = folder / f"{re.sub(r'[^a-z]+', '_', case.lower())}.json"
        made[case] = done = json.loads(path.read_text()) if path.exists() else []
        if args.only and args.only not in case:
            continue
        for seconds, _ in measure(case, args.kills, done) if _lacks(done, args.kills) else ():
            path.with_suffix(".part").write_text(json.dumps(done))
            path.with_suffix(".part").replace(path)
            print(f"{case}: {summarize(done)}, {seconds:.1f} s", flush=True)
    cases = {case: summarize(trials) for case, trials in made.items()}
    problems = [problem.partition(":")[0] for one in cases.values() for problem in one["problems"]]
    total = {
        "kills": sum(one["kills"] for one in cases.values()),
        **{kind: problems.count(kind) for kind in PROBLEMS},
    }
    if not args.only:
        record.write("kills", {"seed": SEED, "kills": args.kills}, {"total": total, "cases": cases})
    print(total)


def _lacks(done, kills):
    return sum(one["kills"] for one in done) < kills


if __name__ == "__main__":
    main()
