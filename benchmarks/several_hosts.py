"""Trains with every method in several JAX processes, and compares with one process.

    KERAS_BACKEND=jax python benchmarks/several_hosts.py

Two and four processes share the batches (`data`) or the kernels too (`model`), and one process
spreads the kernels over four devices; see `several_hosts_cases.py`. What it should show: all
processes end with the same masks and weights, and one process with at least 99.9% of these masks.
Then a worker is killed by SIGKILL after a checkpoint, and all are started again: they should end,
to the bit, like two processes that nobody interrupted. All devices are cores of this machine.
Every setting is recorded when it is done; `--only` chooses some. About six minutes on one CPU core.
"""

import argparse
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np
import record
import several_hosts_cases

SCRIPT = pathlib.Path(__file__).with_name("several_hosts_cases.py")
# Kinds of distribution, with their numbers of processes and of devices in each.
SETTINGS = {
    "2 processes, data": ("data", 2, 1),
    "1 process, 4 devices, model": ("model", 1, 4),
    "4 processes, model": ("model", 4, 1),
    "2 processes, model": ("model", 2, 1),
    "4 processes, data": ("data", 4, 1),
}
# Cases with checkpoints: the name of the file, and after which writes a worker is killed.
KILLED = {"IMP": ("search.npz", (1, 2)), "CS": ("search.npz", (2,)), "RigL": ("training.npz", (2,))}
# Seconds in which the other processes may end after one has failed, and all processes together.
_PATIENCE, _LIMIT = 10, 600
_ATTEMPTS = 3
# What JAX says if it cannot listen at a port.
_TAKEN = "Failed to start RPC server"


class Failed(RuntimeError):
    """A process has failed, or was killed."""


def start(out, kind, count=1, devices=1, cases=(), script=SCRIPT, on_poll=None):
    """Runs cases in some processes, and waits until all have ended.

    The port of the first process is free when it is chosen. If another program takes it before the
    process does, all processes are started again.

    Args:
        out: Path of the folder for results and logs.
        kind: `"one"`, `"data"` or `"model"`.
        count: Integer, the number of processes. Defaults to `1`.
        devices: Integer, the number of devices of each. Defaults to `1`.
        cases: Names of the cases. Defaults to `()`: all.
        script: Path of the program. Defaults to `several_hosts_cases.py`.
        on_poll: Function of the list of the processes, called again and again. Defaults to `None`.

    Returns:
        List of what the processes have printed.

    Raises:
        Failed: If a process fails or is killed; the others are killed, too.
    """
    out.mkdir(parents=True, exist_ok=True)
    chosen = ["--cases", *cases] if cases else []
    flags = os.environ.get("XLA_FLAGS", "")
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}",
    }
    for attempt in range(_ATTEMPTS):
        address = f"localhost:{free_port()}"
        logs = [out / f"{kind}.{index}.log" for index in range(count)]
        processes = []
        for index, log in enumerate(logs):
            command = [sys.executable, script, out, kind, address, str(count), str(index), *chosen]
            with open(log, "w") as file:
                processes.append(
                    subprocess.Popen(command, env=environment, stdout=file, stderr=file)
                )
        codes = _wait(processes, on_poll)
        texts = [log.read_text() for log in logs]
        if not any(codes):
            return texts
        is_taken = any(_TAKEN in text for text in texts)
        if not is_taken or attempt == _ATTEMPTS - 1:
            ends = [text[-3000:] for text, code in zip(texts, codes, strict=True) if code]
            raise Failed(f"exit codes {codes}:\n" + "\n".join(ends))
    raise AssertionError


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def _wait(processes, on_poll):
    """Returns the exit codes. The others are killed soon after one has failed."""
    latest = time.monotonic() + _LIMIT
    try:
        while any(process.poll() is None for process in processes):
            if any(process.poll() for process in processes):
                latest = min(latest, time.monotonic() + _PATIENCE)
            if time.monotonic() > latest:
                break
            if on_poll is not None:
                on_poll(processes)
            time.sleep(0.002)
    finally:
        for process in processes:
            process.kill()
    return [process.wait() for process in processes]


def kill_after(path, writes):
    """Returns a function for `start` that kills the last process after some writes of a file."""
    seen = set()

    def on_poll(processes):
        if path.exists():
            seen.add(path.stat().st_mtime_ns)
        if len(seen) >= writes and processes[-1].poll() is None:
            os.kill(processes[-1].pid, signal.SIGKILL)

    return on_poll


def results_of(out, case, count=1):
    """Returns a list with a dict of arrays for every process."""
    folder = several_hosts_cases.folder_of(out, case)
    return [dict(np.load(f"{folder}.{index}.npz")) for index in range(count)]


def compare(found, expected):
    """Compares the processes with each other and with the reference.

    Args:
        found: List of dicts of arrays, one for every process.
        expected: Dict of the arrays of one process.

    Returns:
        Dict of `identical`, whether all processes have the same masks and weights; `equal_masks`,
        the share of entries that are as expected; `largest_difference` of the weights;
        `other_layouts`, the variables that lie not as their kernels; and `writers`, the number of
        processes that wrote files.
    """
    names = [name for name in expected if name.startswith(("mask", "kernel"))]
    masks = [name for name in names if name.startswith("mask")]
    first = found[0]
    equal = sum(int((first[name] == expected[name]).sum()) for name in masks)
    differences = [abs(first[name] - expected[name]).max() for name in names if name not in masks]
    return {
        "identical": all(np.array_equal(o[name], first[name]) for o in found for name in names),
        "equal_masks": equal / sum(expected[name].size for name in masks),
        "largest_difference": float(max(differences)),
        "other_layouts": [str(path) for one in found for path in one["other_layouts"]],
        "writers": sum(int(one["writes"]) > 0 for one in found),
    }


def measure_kill(out, case, writes, expected):
    """Kills a worker, starts all again, and compares with processes that nobody interrupted."""
    name, _ = KILLED[case]
    folder = several_hosts_cases.folder_of(out, case)
    try:
        start(out, "data", 2, cases=[case], on_poll=kill_after(folder / name, writes))
        was_killed = False
    except Failed:
        was_killed = True
    start(out, "data", 2, cases=[case])
    found = results_of(out, case, 2)
    names = [name for name in expected if name.startswith(("mask", "kernel"))]
    stray = [p.name for p in folder.iterdir() if re.search(r"\.part|\.lock", p.name)]
    return {
        "killed": was_killed,
        "identical": all(np.array_equal(one[n], expected[n]) for one in found for n in names),
        "stray_files": stray,
    }


def measure(scratch, setting, expected):
    """Trains with every method in one setting, and compares with one process."""
    kind, count, devices = SETTINGS[setting]
    out = scratch / setting.replace(" ", "_")
    start(out, kind, count, devices)
    return {
        case: compare(results_of(out, case, count), arrays) for case, arrays in expected.items()
    }


def measure_kills(scratch):
    """Kills workers in every case that has checkpoints."""
    start(scratch / "whole", "data", 2, cases=list(KILLED))
    found = {}
    for case, (_, moments) in KILLED.items():
        expected = results_of(scratch / "whole", case)[0]
        for writes in moments:
            out = scratch / f"killed_{case}_{writes}"
            found[f"{case}, write {writes}"] = measure_kill(out, case, writes, expected)
    return found


def main():
    """Measures settings and kills, and records each when it is done."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="part of the name of a setting, or 'killed'")
    only = parser.parse_args().only
    given = {
        "batches": several_hosts_cases.BATCHES,
        "batch_size": several_hosts_cases.BATCH_SIZE,
    }

    def keep(name, results):
        print(name, results, flush=True)
        record.update("several_hosts", given, {name: results})

    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        if chosen := [setting for setting in SETTINGS if only in setting]:
            start(scratch / "one", "one")
            cases = several_hosts_cases.CASES
            expected = {case: results_of(scratch / "one", case)[0] for case in cases}
            for setting in chosen:
                keep(setting, measure(scratch, setting, expected))
        if only in "a worker killed":
            keep("a worker killed", measure_kills(scratch))


if __name__ == "__main__":
    main()
