"""The two tiers of the tests, and the limit on what a quick one may cost."""

import gc
import os

import pytest

TIERS = pytest.StashKey()
SLOWEST = 10


def pytest_addoption(parser):
    parser.addoption("--thorough", action="store_true", help="also run the tests marked `thorough`")
    parser.addini("cpu_limit", "CPU seconds that a test of the quick tier may take", default="10")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    # Workers of pytest-xdist take over each other's tests at the end, and tests of one file, which
    # share fixtures, stay together.
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "worksteal"


def pytest_configure(config):
    config.stash[TIERS] = CpuTimes(float(config.getini("cpu_limit")))
    config.pluginmanager.register(config.stash[TIERS], "cpu_times")


def pytest_collection_modifyitems(config, items):
    """Leaves out the thorough tests unless they are asked for."""
    thorough = [item for item in items if _reason(item, "thorough")]
    if thorough and not config.option.thorough:
        config.hook.pytest_deselected(items=thorough)
        items[:] = [item for item in items if item not in set(thorough)]


def pytest_collection_finish():
    """Spares the garbage collector the imported modules, which cost each full collection 0.15 s."""
    gc.collect()
    gc.freeze()


def _reason(item, name):
    """Returns the reason that a marker gives, or `None` if the test does not have the marker."""
    marker = item.get_closest_marker(name)
    if marker is None:
        return None
    if len(marker.args) != 1 or not isinstance(marker.args[0], str):
        raise pytest.UsageError(f"{item.nodeid}: the marker `{name}` needs a reason, a string")
    return marker.args[0]


class CpuTimes:
    """Measures the CPU time of every test, its child processes included.

    CPU time, since wall time depends on what else the machine does.
    """

    def __init__(self, limit):
        self.limit = limit
        self.seconds = {}
        self.too_slow = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item):
        item.stash[TIERS] = _cpu_seconds()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        # Attributes of reports travel from the workers of pytest-xdist to the main process.
        report.cpu_seconds = _cpu_seconds() - item.stash[TIERS]
        report.has_cpu_limit = not (_reason(item, "thorough") or _reason(item, "runs_pytest"))
        return report

    def pytest_runtest_logreport(self, report):
        if report.when == "teardown":
            self.seconds[report.nodeid] = report.cpu_seconds
            if report.has_cpu_limit and report.cpu_seconds > self.limit:
                self.too_slow[report.nodeid] = report.cpu_seconds

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session):
        if self.too_slow and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        slowest = sorted(self.seconds.items(), key=lambda pair: -pair[1])[:SLOWEST]
        total = sum(self.seconds.values())
        terminalreporter.section(
            f"slowest {len(slowest)} tests, CPU seconds (of {total:.0f} in all)"
        )
        for name, seconds in slowest:
            terminalreporter.line(f"{seconds:7.1f}  {name}")
        for name, seconds in self.too_slow.items():
            terminalreporter.line(
                f"FAILED {name}: {seconds:.1f} s of CPU time, more than the {self.limit:g} s of "
                "`cpu_limit`; make it cheaper or mark it `thorough`",
                red=True,
            )


def _cpu_seconds():
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
