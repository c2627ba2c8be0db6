"""A thousand damaged files, run folders and command lines: only the documented errors.

    python benchmarks/fuzz.py

Each is given to the command `tf-lottery`. What it should show: exit code 0 or 2, an error of one
line and never a traceback, at most 60 seconds, and little more memory than an undamaged file takes.
A training that would begin counts as accepted and ends there. About ten minutes on one CPU core.
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import resource
import signal
import sys
import tempfile
import traceback
import warnings

import fuzz_inputs
import keras
import record
import tensorflow as tf

import tf_lottery_cli

SEED = 0
SECONDS = 60
# More than TensorFlow itself, for an input of some kilobytes.
MOST_BYTES = 2**30


class Accepted(BaseException):
    """A training would begin."""


def accept(*_, **__):
    raise Accepted


def make_runs(base):
    """Makes the folders of a finished run, of two interrupted ones and of a sweep."""
    commands = {name: fuzz_inputs.run_arguments(name) for name in ("gmp", "gmp_begun", "imp_begun")}
    spec = {"method": ["static", "dense"], "epochs": 1, "batch_size": 500}
    (base / "spec_of_runs.json").write_text(json.dumps(spec))
    commands["swept"] = ["sweep", str(base / "spec_of_runs.json")]
    for name, words in commands.items():
        if tf_lottery_cli.main([*words, "--out", str(base / name)]):
            raise RuntimeError(f"{name} could not be made")
        if name.endswith("_begun"):
            for file in ("results.json", "model.keras", "ticket.npz"):
                (base / name / file).unlink()


def outcome(words):
    """Runs a command, and returns a description of what it should not have done, or `None`."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = tf_lottery_cli.main(words)
    except Accepted:
        return None
    except SystemExit as error:
        code = error.code
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    lines = err.getvalue().strip().splitlines()
    if code not in (0, 2):
        return f"exit code {code}"
    if code == 2 and not (lines and lines[-1].startswith("tf-lottery")):
        return f"an error without a message: {lines[-3:]}"
    return None


def try_all(kind, numbers, base, report):
    """Tries inputs in this process, and writes a line of JSON for each to a file."""
    warnings.simplefilter("ignore")
    tf.config.run_functions_eagerly(True)
    keras.Model.fit = accept
    limit = resource.getrlimit(resource.RLIMIT_DATA)[1]
    for number in numbers:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            before = peak()
            for words in fuzz_inputs.make(kind, number, SEED, base, folder):
                signal.alarm(SECONDS)
                resource.setrlimit(resource.RLIMIT_DATA, (used() + 4 * MOST_BYTES, limit))
                problem = outcome(words)
                signal.alarm(0)
                added = peak() - before
                if problem is None and added > MOST_BYTES:
                    problem = f"{added} bytes"
                found = {"number": number, "words": words, "problem": problem, "bytes": added}
                report.write(json.dumps(found) + "\n")
                report.flush()
            os.chdir("/")


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def used():
    """Returns the bytes of memory that count for `RLIMIT_DATA`."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmData:")[1].split()[0]) * 1024


def in_child(function, *arguments):
    """Calls a function in a forked process. Returns its exit code, or minus its signal."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        if not os.environ.get("SHOW"):
            os.dup2(null, 2)
        function(*arguments)
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def measure(kind, count, base, scratch):
    """Returns what was found of one kind: a list of dicts."""
    found, first = [], 0
    while first < count:
        path = scratch / f"{kind}_{first}.jsonl"
        with open(path, "w") as report:
            code = in_child(try_all, kind, range(first, count), base, report)
        found += [json.loads(line) for line in path.read_text().splitlines()]
        first = max([first - 1, *(one["number"] for one in found)]) + 1
        if code != 0:
            # The process died at the next one.
            words = "ended by the time limit" if code == -signal.SIGALRM else f"died with {code}"
            found.append({"number": first, "words": [], "problem": words, "bytes": 0})
            first += 1
    return found


def main():
    """Tries all kinds, prints what escaped, and records it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200, help="inputs of each kind")
    parser.add_argument("--only", help="one kind")
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        base, scratch = pathlib.Path(folder, "base"), pathlib.Path(folder, "scratch")
        base.mkdir()
        scratch.mkdir()
        for make in (fuzz_inputs.make_base, make_runs):
            if in_child(make, base):
                raise RuntimeError(f"{make.__name__} failed; SHOW=1 shows why")
        for kind in fuzz_inputs.KINDS:
            if args.only in (None, kind):
                found = measure(kind, args.count, base, scratch)
                results[kind] = {
                    "inputs": len({one["number"] for one in found}),
                    "commands": len(found),
                    "most_bytes": max(one["bytes"] for one in found),
                    "escapes": [one for one in found if one["problem"]],
                }
                print(kind, json.dumps(results[kind], indent=1), flush=True)
    if args.only is None:
        total = sum(len(one["escapes"]) for one in results.values())
        settings = {"seed": SEED, "seconds": SECONDS, "most_bytes": MOST_BYTES}
        record.write("fuzz", settings, {"escapes": total, "kinds": results})


if __name__ == "__main__":
    sys.exit(main())
