"""What a test may cost without a mark: the rule, and a session of pytest that ends red by it."""

import sys

import pytest

from tests import costs
from tests.costs import Cost, complaint, is_process


@pytest.mark.parametrize(
    ("cost", "slow", "why"),
    [
        (Cost(0.1), False, None),
        (Cost(costs.LIMIT), False, None),
        (Cost(costs.LIMIT + 0.1), False, "took 6.1 s of the processor, more than 6 s"),
        (Cost(costs.LIMIT + 0.1), True, None),
        (Cost(0.1, processes=1), False, "starts another Python"),
        (Cost(0.1, processes=1), True, None),
        (Cost(costs.LIMIT + 5, loaded=("tensorflow",)), False, None),  # loaded for all that come after
        (Cost(costs.LIMIT + 11, loaded=("tensorflow",)), False, "more than 16 s"),
    ],
)
def test_the_rule(cost, slow, why):
    found = complaint(cost, slow)
    assert found is None if why is None else why in found


def test_only_python_and_forks_are_processes():
    assert is_process("subprocess.Popen", (sys.executable, [sys.executable, "-c", ""], None, None))
    assert is_process("os.fork", ())
    assert not is_process("subprocess.Popen", ("uname", ["uname", "-p"], None, None))
    assert not is_process("open", ("python", "r", 0))


PROGRAM = """
import subprocess, sys, time
import pytest

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

@pytest.fixture(scope="module")
def dear():
    burn(0.2)

def test_cheap():
    pass

def test_grown(dear):
    pass

@pytest.mark.slow
def test_marked():
    burn(0.2)

@pytest.mark.slow
@pytest.mark.parametrize("case", [1, 2])
def test_marked_for_nothing(case):
    pass

@pytest.mark.parametrize("case", ["a"])
def test_asleep(case):
    time.sleep(0.3)
"""
STARTS = """
def test_starts_a_program():
    assert subprocess.run([sys.executable, "-S", "-c", ""]).returncode == 0
"""


@pytest.fixture
def session(pytester, monkeypatch):
    """`session(program, *arguments)`: its result, with a limit of a tenth of a second."""
    pytester.makeini("[pytest]\nmarkers = slow")
    monkeypatch.setattr(costs, "LIMIT", 0.1)

    def run(program, *arguments):
        pytester.makepyfile(program)
        return pytester.runpytest_inprocess("-p", "tests.costs", "-p", "no:xdist", *arguments)

    return run


def test_what_outgrows_its_mark_fails_the_session(session):
    """By the processor's time, fixtures included, not by the clock's; the last line counts it."""
    result = session(PROGRAM)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=6, errors=1)
    text = result.stdout.str()
    assert "::test_grown took 0.2 s of the processor, more than 0.1 s: make it faster or mark it slow" in text
    assert "test_asleep" not in text and "test_cheap" not in text
    assert "marked slow, but took less than 0.5 s" in text and "test_marked_for_nothing" in text
    assert result.outlines[-1].startswith("=") and "1 error" in result.outlines[-1]
    only_cheap = session(PROGRAM, "-k", "cheap")
    assert only_cheap.ret == pytest.ExitCode.OK
    only_cheap.assert_outcomes(passed=1, deselected=5)


@pytest.mark.slow
def test_what_starts_a_program_fails_the_session(session):
    result = session(PROGRAM + STARTS, "-k", "starts")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "test_starts_a_program starts another Python: mark it slow" in result.stdout.str()


@pytest.mark.slow
def test_workers_report_to_the_one_that_judges(pytester, monkeypatch):
    """With xdist the workers measure and the controller judges."""
    root = str(costs.Path(costs.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", root)
    pytester.makeini("[pytest]\nmarkers = slow")
    pytester.makeconftest("from tests import costs\ncosts.LIMIT = 0.1\npytest_plugins = ['tests.costs']\n")
    pytester.makepyfile(PROGRAM)
    result = pytester.runpytest_subprocess("-n", "2", "--dist", "loadfile")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=6, errors=1)
    assert "::test_grown took" in result.stdout.str()
