"""Runs TFLite files on the emulated machine of `xnnpack_arm.py`, twice each.

    python xnnpack_arm_guest.py PACKAGES FILE ...

The plugin counts the instructions between two calls of `getppid`, which is the second run.
Outputs are written to `FILE.npz`.
"""

import os
import sys

sys.path.insert(0, sys.argv[1])

import numpy as np  # noqa: E402
from ai_edge_litert.interpreter import Interpreter  # noqa: E402


def main():
    """Runs the files; writes no outputs for a file that does not load."""
    for path in sys.argv[2:]:
        print("file", path, file=sys.stderr, flush=True)
        try:
            interpreter = Interpreter(model_path=path, num_threads=1)
            interpreter.allocate_tensors()
        except RuntimeError as error:
            print("error", error, file=sys.stderr, flush=True)
            continue
        (entry,) = interpreter.get_input_details()
        values = np.random.default_rng(0).normal(size=entry["shape"])
        interpreter.set_tensor(entry["index"], values.astype(entry["dtype"]))
        interpreter.invoke()
        os.getppid()
        interpreter.invoke()
        os.getppid()
        outputs = [interpreter.get_tensor(x["index"]) for x in interpreter.get_output_details()]
        np.savez(f"{path}.npz", *sorted(outputs, key=lambda array: array.size))


if __name__ == "__main__":
    main()
