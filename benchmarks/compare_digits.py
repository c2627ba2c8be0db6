"""`tf-lottery demo` and `tf-lottery compare --quick` as a user runs them: their time and tables.

    python benchmarks/compare_digits.py demo
    python benchmarks/compare_digits.py compare

What it should show: on two idle cores the demonstration takes less than 60 seconds from the command
to its table, and a second run less than 10; the comparison takes less than five minutes. It gives
one seed on 300 test images, where a difference of two points can be chance.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import record

COMMANDS = {"demo": ["demo"], "compare": ["compare", "--quick"]}
COLUMNS = 80


def run(arguments):
    """Returns what the command prints, and how many seconds it takes."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "tf_lottery_cli", *arguments],
        env={**os.environ, "COLUMNS": str(COLUMNS)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout, time.perf_counter() - start


def main():
    """Runs one of the commands twice and records both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=COMMANDS)
    command = COMMANDS[parser.parse_args().name]
    with tempfile.TemporaryDirectory() as folder:
        out = ["--out", os.path.join(folder, "run")]
        printed, first = run([*command, *out])
        found, second = run([*command, *out, "--json"])
    # The last lines name the folder.
    table = printed.split("In ")[0].splitlines()
    results = {"first_seconds": first, "second_seconds": second, "printed": table}
    summary = json.loads(found)["summary"]
    record.update("compare_digits", {"jobs": 2}, {command[0]: {**results, "summary": summary}})


if __name__ == "__main__":
    main()
