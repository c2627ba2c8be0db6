"""The trainings of the papers on made examples, at full size: what they count, and a step's cost.

    KERAS_BACKEND=tensorflow python benchmarks/reproductions.py

Runs `tf-lottery reproduce NAME --synthetic` for every training but the five times longer ones, with
batches of 8 examples of the paper's size, for two and for seven steps of every training.

What it should show: every training runs from its data pipeline to its results; parameters, FLOPs
and megabytes are those that the papers report, but for rounding and for 0.4 MFLOPs of the padding
of MobileNet-v1. CPU seconds a step are the difference of both runs; the largest memory is that of
the whole process. About ten minutes on one CPU core.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile

import record

from tf_lottery.analysis._flops import flops
from tf_lottery.experiments import networks
from tf_lottery.experiments.reproductions import REPRODUCTIONS, make

BATCH, FEWER, MORE = 8, 2, 7
NAMES = [name for name in REPRODUCTIONS if not name.endswith("-5x")]


def run(name, steps):
    """Returns the report of a run and its CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--synthetic", "--steps", str(steps), "--batch-size", str(BATCH), "--json"]
        command = [sys.executable, "-m", "tf_lottery_cli", "reproduce", name, *options]
        start = cpu_seconds()
        found = subprocess.run(
            [*command, "--out", folder], check=True, capture_output=True, text=True
        )
    return json.loads(found.stdout), cpu_seconds() - start


def cpu_seconds():
    """Returns the CPU time of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(name):
    """Returns what a training counts and what a step costs."""
    reproduction = REPRODUCTIONS[name]
    report, seconds = run(name, FEWER)
    _, more = run(name, MORE)
    steps = reproduction.shortened(BATCH, MORE - FEWER).total_steps
    model = networks.build(reproduction.settings.model, make(reproduction, count=BATCH), seed=0)
    examples = reproduction.total_steps * reproduction.settings.batch_size
    return {
        "found": {k: v for k, v in report["found"].items() if k != "test_accuracy"},
        "published": report["published"],
        "seconds_a_step": (more - seconds) / steps,
        "examples": examples,
        "dense_training_flops": float(flops(model).training("dense")) * examples,
    }


def in_child(name):
    """Returns what `measure` does, and the memory, which is that of the processes of this one."""
    options = [sys.executable, __file__, "--only", name]
    found = subprocess.run(options, check=True, capture_output=True, text=True, env=os.environ)
    return json.loads(found.stdout.splitlines()[-1])


def main():
    """Measures every training that is not recorded yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=NAMES, help="print one and record nothing")
    args = parser.parse_args()
    if args.only:
        found = measure(args.only)
        # Kilobytes on Linux.
        kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        print(json.dumps({**found, "peak_bytes": 1024 * kilobytes}))
        return
    try:
        done = record.read("reproductions")["results"]
    except FileNotFoundError:
        done = {}
    for name in NAMES:
        if name not in done:
            done[name] = in_child(name)
            settings = {"batch_size": BATCH, "steps": [FEWER, MORE]}
            record.write("reproductions", settings, {n: done[n] for n in NAMES if n in done})
            print(name, done[name], flush=True)


if __name__ == "__main__":
    main()
