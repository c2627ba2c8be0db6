"""What the package costs to install and to import: bytes, and seconds.

    python benchmarks/install_cost.py [EXTRA ...]

Each set of extras is installed into a new environment, from files that were downloaded before.
`import tf_lottery` is timed in new processes, of which the first, which reads the files from disk,
is not counted; most of it is the import of Keras and its backend. Seconds are those of a processor,
so that neither the network nor what else the machine does counts. What it should show: the import
of the library itself takes at most a fifth of that of Keras.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile

import record

ROOT = pathlib.Path(__file__).parents[1]
# The extras, and the backend that they bring.
BACKENDS = {"jax": "jax", "tensorflow": "tensorflow", "all": "tensorflow"}
IMPORTS = 5
PACKAGES = ("keras", "numpy", "tensorflow", "jax")
TIMED = """\
from time import process_time
start = process_time()
import keras
with_keras = process_time()
import tf_lottery
print(with_keras - start, process_time() - with_keras)
"""


def run(*command, **environment):
    """Returns what a program prints."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        command, env=environment, cwd="/", check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def num_bytes(folder):
    """Returns the bytes of the files in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def processor_seconds():
    """Returns the time that programs which this one has run took of a processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(extra, folder):
    """Installs the package with an extra and imports it.

    Args:
        extra: String, a key of `BACKENDS`.
        folder: Path of an empty folder.
    """
    run(sys.executable, "-m", "venv", folder / "environment")
    python, wheels = folder / "environment" / "bin" / "python", folder / "wheels"
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--wheel-dir", wheels, ROOT)
    (wheel,) = wheels.iterdir()
    run(*pip, "download", "--dest", wheels, f"{wheel}[{extra}]")
    (packages,) = (folder / "environment" / "lib").glob("*/site-packages")
    empty, start = num_bytes(packages), processor_seconds()
    run(*pip, "install", "--no-index", "--find-links", wheels, f"{wheel}[{extra}]")
    seconds = processor_seconds() - start
    times = [_import_times(python, BACKENDS[extra], folder) for _ in range(1 + IMPORTS)][1:]
    with_keras, own = map(statistics.median, zip(*times, strict=True))
    installed = json.loads(run(python, "-m", "pip", "list", "--format", "json"))
    return {
        "download_bytes": num_bytes(wheels),
        "installed_bytes": num_bytes(packages) - empty,
        "install_seconds": seconds,
        "import_keras_seconds": with_keras,
        "import_seconds": own,
        "versions": {one["name"]: one["version"] for one in installed if one["name"] in PACKAGES},
    }


def _import_times(python, backend, folder):
    """Returns the seconds that Keras takes, and then the library."""
    printed = run(python, "-c", TIMED, KERAS_BACKEND=backend, KERAS_HOME=str(folder))
    return [float(seconds) for seconds in printed.split()]


def main():
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help="all of them by default")
    for extra in parser.parse_args().extras or BACKENDS:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(extra, pathlib.Path(folder))
        print(extra, found)
        record.update("install_cost", {"imports": IMPORTS}, {extra: found})


if __name__ == "__main__":
    main()
