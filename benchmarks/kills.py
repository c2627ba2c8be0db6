"""Kills trainings at random moments, starts them again, and compares what they end with.

    python benchmarks/kills.py

Every training of `kills_cases.py` first runs undisturbed. Then it is started, killed by SIGKILL
after a random share of its CPU time, started again by the same call and killed again, up to three
times; at last it may end. What it should show: the same files with the same content but for
measured times, no other files, and no process that goes on when the one that started it is killed.
`BackupAndRestore` is Keras' own and does not write atomically: a kill while it writes can leave a
backup that Keras cannot read. `Checkpoint` is the library's.

A training is a process that is forked from this one, which has imported TensorFlow but run nothing
with it. A killed benchmark goes on where it stopped, and several can share the trainings by their
names, with `--only`. About twenty minutes on one CPU core.
"""

import argparse
import contextlib
import csv
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
PROBLEMS = ("different", "missing", "stray", "orphan", "error")
# Seconds between the CPU time at which a training is killed and the kill.
LONGEST_DELAY = 0.03
# Seconds in which the processes that a killed training had started must end.
PATIENCE = 20
# The times in the results, which are measured.
TIMES = ("latency_ms", "milliseconds", "seconds")


def start(case, folder):
    """Starts a case in a new process, and returns its id. It logs into `FOLDER.log`."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    # By its session, the processes that it starts are found when it is dead.
    os.setsid()
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
        The exit code, `None` if it was killed; the CPU time; and the id of its session.
    """
    pid = start(case, folder)
    while cpu_seconds(pid) < seconds:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, pid
        time.sleep(0.003)
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    # It may just have ended.
    code = None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
    return code, seconds, pid


def cpu_seconds(pid):
    """Returns the CPU time of a process and those that it has started, in steps of the clock."""
    try:
        fields = stat(pid)
        children = [
            int(child)
            for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children")
            for child in path.read_text().split()
        ]
    except OSError:
        return 0.0
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return own + sum(map(cpu_seconds, children))


def stat(pid):
    """Returns what the system tells of a process: its state, parent, group, session and so on."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def orphans(sessions):
    """Waits until all processes of some sessions have ended, and returns the ids of others."""
    latest = time.monotonic() + PATIENCE
    while (found := _processes(sessions)) and time.monotonic() < latest:
        time.sleep(0.1)
    return found


def _processes(sessions):
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = stat(path.name)
            if int(fields[3]) in sessions and fields[0] != "Z":
                found.append(int(path.name))
    return found


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
    if path.suffix == ".tflite":
        return data
    if path.suffix == ".csv":
        return without_times(list(csv.DictReader(io.StringIO(data.decode()))))
    text = data.decode().replace(str(folder), "")
    if path.suffix != ".json":
        return text
    found = without_times(json.loads(text))
    if path.name == "exported.json":
        # The hash of `model.keras`, an archive with dates.
        del found["settings"]["model"]
    return found


def without_times(found):
    """Returns the content of a JSON or CSV file without the times that were measured."""
    if isinstance(found, list):
        return list(map(without_times, found))
    if isinstance(found, dict):
        return {k: without_times(v) for k, v in found.items() if not k.endswith(TIMES)}
    return found


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
    rng, kills, code, sessions = random.Random(f"{SEED} {case} {number}"), 0, None, set()
    while code is None:
        moment = rng.uniform(0, seconds) if kills < MOST_KILLS else math.inf
        code, _, session = run(case, folder, moment, rng.uniform(0, LONGEST_DELAY))
        kills += code is None
        sessions.add(session)
    left = [f"orphan: {len(found)} processes"] if (found := orphans(sessions)) else []
    problems = differences(contents(folder), expected) if code == 0 else [last_line(folder)]
    return {"kills": kills, "problems": left + problems}


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
        code, seconds, _ = run(case, reference)
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
    parser.add_argument("--kills", type=int, default=13, help="of each training, half of slow ones")
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
        kills = math.ceil(args.kills / 2) if case in kills_cases.SLOW else args.kills
        for seconds, _ in measure(case, kills, done) if _lacks(done, kills) else ():
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
