import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tf_lottery.export import ExportError, child_process
from tf_lottery.export.child_process import (
    ChildCrash,
    ChildError,
    ChildProcess,
    ChildTimeout,
    KeptProcess,
)

TASK = """
import os, signal, sys, time
def add(a, b): return a + b
def environment(key): return os.environ.get(key)
def process(): return os.getpid()
def chatter(): print("on standard output"); os.write(1, b"below Python"); return "told"
def refuse(what): raise ValueError(f"no {what}")
def crash():
    for i in range(9): print("line", i, file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
def leave(): os._exit(3)
def sleep(): time.sleep(60)
def secret(): return lambda: None
def damage(): globals()["is_damaged"] = True
def use(): return crash() if "is_damaged" in globals() else "used"
"""


@pytest.fixture
def task(tmp_path):
    path = tmp_path / "task.py"
    path.write_text(TASK)
    return path


@pytest.fixture
def child(task):
    with ChildProcess(task) as child:
        yield child


def is_running(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    # It can end between the two lines, or while the file is read.
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pid):
    # A minute, since a process on a busy machine may wait long for its turn to end.
    for _ in range(1200):
        if not is_running(pid):
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} runs on")


def test_calls_run_in_another_process_one_after_another(child):
    np.testing.assert_array_equal(child.call("add", a=np.arange(3), b=1), [1, 2, 3])
    assert child.call("add", a=b"x" * 300_000, b=b"y") == b"x" * 300_000 + b"y"
    assert child.call("process") != os.getpid()


def test_accelerators_are_the_parents(child):
    assert child.call("environment", key="CUDA_VISIBLE_DEVICES") == "-1"


def test_what_a_task_prints_does_not_reach_the_parent(child, capfd):
    assert child.call("chatter") == "told"
    assert child.call("add", a=1, b=2) == 3
    assert capfd.readouterr() == ("", "")


def test_exception_is_told_and_the_process_goes_on(child):
    with pytest.raises(ChildError, match=r"^ValueError: no way$"):
        child.call("refuse", what="way")
    assert child.call("add", a=1, b=2) == 3


def test_crash_is_told_with_the_end_of_the_log(child):
    with pytest.raises(ChildError, match="was ended by SIGSEGV") as caught:
        child.call("crash")
    lines = str(caught.value).splitlines()
    assert lines[1:] == [f"line {i}" for i in range(4, 9)]
    with pytest.raises(ChildError, match="was ended by SIGSEGV"):
        child.call("add", a=1, b=2)


def test_exit_is_told(child):
    with pytest.raises(ChildError, match=r"^The process ended with status 3\.$"):
        child.call("leave")


def test_value_that_cannot_be_sent_is_told(child):
    with pytest.raises(ChildError, match="(?s)ended with status 1.*pickle"):
        child.call("secret")


def test_process_that_somebody_kills_is_told(child):
    pid = child.call("process")
    killer = threading.Timer(0.2, os.kill, [pid, signal.SIGKILL])
    killer.start()
    with pytest.raises(ChildError, match=r"^The process was ended by SIGKILL\.$"):
        child.call("sleep")
    killer.join()


def test_file_that_does_not_load_is_told(tmp_path):
    (tmp_path / "task.py").write_text("import no_such_module_at_all")
    with ChildProcess(tmp_path / "task.py") as child:
        pid = child._process.pid
        with pytest.raises(ChildError, match="(?s)status 1.*No module named 'no_such_module_at"):
            child.call("add", a=1, b=2)
    assert not is_running(pid)


def test_process_that_dies_at_once_is_told(task, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    send = ChildProcess._send

    def send_late(self, value):
        self._process.wait()
        send(self, value)

    monkeypatch.setattr(ChildProcess, "_send", send_late)
    with ChildProcess(task) as child, pytest.raises(ChildError, match="ended with status 1"):
        child.call("add", a=1, b=2)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_no_process_is_left(error, task):
    with pytest.raises(error), ChildProcess(task) as child:
        pid = child.call("process")
        assert is_running(pid)
        raise error
    assert not is_running(pid)


def test_interrupted_call_leaves_no_process(task):
    interrupt = threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT])
    with pytest.raises(KeyboardInterrupt), ChildProcess(task) as child:
        pid = child.call("process")
        interrupt.start()
        child.call("sleep")
    assert not is_running(pid)


def test_process_ends_when_its_parent_is_gone(task):
    # The module is loaded without its package, which would import TensorFlow.
    code = (
        "import os, runpy, sys, types\n"
        "errors = types.SimpleNamespace(ExportError=RuntimeError)\n"
        "sys.modules['tf_lottery.export.errors'] = errors\n"
        f"names = runpy.run_path({child_process.__file__!r})\n"
        f"child = names['ChildProcess']({str(task)!r}).__enter__()\n"
        "print(child.call('process'), flush=True)\n"
        "os._exit(0)"
    )
    parent = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    wait_until_gone(int(parent.stdout))


@pytest.mark.parametrize("executable", [None, "", "/no/python"])
def test_missing_python_is_told(task, monkeypatch, executable):
    monkeypatch.setattr("sys.executable", executable)
    with pytest.raises(ExportError, match="separate processes.*sys.executable="):
        ChildProcess(task).__enter__()


def test_call_that_takes_too_long_is_ended(task):
    with ChildProcess(task, time_limit=0.2) as child:
        message = "took more than 0.2 seconds and was ended"
        with pytest.raises(ChildTimeout, match=message):
            child.call("sleep")
        assert child.has_ended()


@pytest.mark.parametrize("what", ["argument", "answer"])
def test_kept_process_does_not_answer_a_call_that_was_given_up(what, task, monkeypatch):
    def interrupted(file):
        raise KeyboardInterrupt

    with KeptProcess(lambda: ChildProcess(task)) as kept:
        first = kept.call("process")
        if what == "argument":
            # It cannot be pickled, after a part of the message was written.
            with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
                kept.call("add", a=bytes(2**20), b=lambda: None)
        else:
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(pickle, "load", interrupted)
                kept.call("add", a=1, b=2)
        assert kept.call("add", a=3, b=4) == 7
        assert kept.call("process") != first


def test_kept_process_is_one_until_it_crashes(task):
    with KeptProcess(lambda: ChildProcess(task)) as kept:
        kept.start()
        first = kept.call("process")
        kept.call("damage")
        assert kept.call("process") == first
        # What an earlier call damaged is not a later call's fault.
        assert kept.call("use") == "used"
        second = kept.call("process")
        assert second != first and not is_running(first)
        with pytest.raises(ChildCrash, match="SIGSEGV"):
            kept.call("crash")
        with pytest.raises(ChildError, match="no way"):
            kept.call("refuse", what="way")
        last = kept.call("process")
        kept._child.time_limit = 0.1
        with pytest.raises(ChildTimeout):
            kept.call("sleep")
    assert not is_running(second) and not is_running(last)
