"""Runs files in TFLite Micro's interpreter; runs in a separate process, see `ChildProcess`."""

import os
import re
import tempfile

from tflite_micro.python.tflite_micro import runtime

# Bytes for tensors while a file runs here; a device needs only what the run then reports.
ARENA_BYTES = 2**27


def run(content, steps):
    """Returns the outputs of a file for every step, and the bytes of memory that it needs.

    Args:
        content: Bytes of the file.
        steps: List of lists of arrays in the types of the file's inputs, in their order.
    """
    interpreter = runtime.Interpreter.from_bytes(content, arena_size=ARENA_BYTES)
    outputs = []
    for step in steps:
        interpreter.reset()
        for index, array in enumerate(step):
            interpreter.set_input(array, index)
        interpreter.invoke()
        outputs.append([interpreter.get_output(i) for i in range(_num_outputs(content))])
    return outputs, _arena_bytes(interpreter)


def _num_outputs(content):
    from ai_edge_litert import schema_py_generated as schema

    return schema.Model.GetRootAs(content, 0).Subgraphs(0).OutputsLength()


def _arena_bytes(interpreter):
    """Returns the bytes of the arena, which the interpreter only prints on standard error."""
    with tempfile.TemporaryFile() as log:
        terminal = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            interpreter.print_allocations()
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
        log.seek(0)
        found = re.search(rb"Arena allocation total (\d+) bytes", log.read())
    return int(found[1]) if found else None
