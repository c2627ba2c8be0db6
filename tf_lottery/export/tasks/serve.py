"""Calls functions of a file on behalf of the parent process; see `ChildProcess`.

Runs as a script, `python serve.py FILE`. It reads pickled calls from standard input and writes
pickled results to standard output. Whatever else is printed goes to standard error.
"""

import os
import pickle
import runpy
import sys


def main(path):
    """Answers calls until standard input ends.

    Args:
        path: String, the file with the functions.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.path[:] = pickle.load(sys.stdin.buffer)
    functions = runpy.run_path(path)
    while True:
        try:
            name, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            outcome = "value", functions[name](**arguments)
        except Exception as error:
            outcome = "error", f"{type(error).__name__}: {error}"
        pickle.dump(outcome, answers)
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
