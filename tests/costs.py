"""Keeps `make test-fast` fast: names the tests that cost more than their mark allows, and fails the session.

A test without `@pytest.mark.slow` may take `LIMIT` seconds of the processor and starts no Python. What is measured
is the processor's time of the test with its fixtures and threads, not the clock's: a busy machine changes it little.
"""

import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

# Tests are marked from about 1.5 s on a laptop's core on: a machine three or four times slower does not fail.
LIMIT = 6.0
# What is loaded once and serves every later test is not the first one's fault; TensorFlow takes 4 s.
LIBRARIES = ("tensorflow", "torch", "tensorflow_datasets")
LOADING = 10.0
CHEAP = 0.5
FORKS = ("os.fork", "os.forkpty", "os.posix_spawn", "os.system")


class Cost(NamedTuple):
    """Of one test: seconds of the processor, Pythons that it started, libraries it was the first to load."""

    seconds: float
    processes: int = 0
    loaded: tuple[str, ...] = ()


def complaint(cost: Cost, slow: bool) -> str | None:
    """Why a test needs `@pytest.mark.slow`; None if it has the mark or needs none."""
    if slow:
        return None
    if cost.processes:
        return "starts another Python: mark it slow"
    limit = LIMIT + LOADING * len(cost.loaded)
    if cost.seconds > limit:
        return f"took {cost.seconds:.1f} s of the processor, more than {limit:g} s: make it faster or mark it slow"
    return None


_started = 0


def is_process(event: str, arguments: tuple) -> bool:
    """Whether an audit event is the start of a Python or of a copy of this one; `uname` and its like take no time."""
    return event in FORKS or (event == "subprocess.Popen" and "python" in Path(str(arguments[0])).name)


def _count_processes(event: str, arguments: tuple) -> None:
    global _started
    _started += is_process(event, arguments)


def _seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


class Costs:
    """Measures where the tests run, and judges where their reports come together (with xdist, not in the workers)."""

    def __init__(self) -> None:
        self.complaints: dict[str, str] = {}
        self.marked: dict[str, float] = {}  # of each function marked slow: seconds of all its cases
        self._before = 0.0, 0, frozenset[str]()
        sys.addaudithook(_count_processes)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        self._before = _seconds(), _started, frozenset(sys.modules)
        return (yield)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        try:
            return (yield)
        finally:
            seconds, started, modules = self._before
            loaded = tuple(name for name in LIBRARIES if name in sys.modules and name not in modules)
            cost = Cost(_seconds() - seconds, _started - started, loaded)
            item.user_properties.append(("cost", tuple(cost)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        cost = dict(report.user_properties).get("cost")
        if report.when != "teardown" or cost is None:
            return
        cost, slow = Cost(*cost), "slow" in report.keywords
        if why := complaint(cost, slow):
            self.complaints[report.nodeid] = why
        if slow:
            name = report.nodeid.partition("[")[0]
            seconds = float("inf") if cost.processes else cost.seconds
            self.marked[name] = self.marked.get(name, 0.0) + seconds

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if not self.complaints or hasattr(session.config, "workerinput") or reporter is None:
            return
        for name, why in self.complaints.items():
            # As an error among pytest's own, so that the last line counts it.
            report = pytest.TestReport(name, (name, None, name), {}, "failed", f"{name} {why}", "teardown")
            reporter.stats.setdefault("error", []).append(report)
        if session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if cheap := sorted(name for name, seconds in self.marked.items() if seconds < CHEAP):
            terminalreporter.write_line(f"marked slow, but took less than {CHEAP:g} s: {', '.join(cheap)}")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Costs(), "costs")
