"""Signals that ask to stop, sent to small programs: what is said, with which status, and what is not lost.

Where the real ones compile, they read from a pipe that nobody writes to: in C, where no handler of Python's runs.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
IN_C = "import ctypes; ctypes.CDLL(None).read(os.pipe()[0], ctypes.create_string_buffer(1), 1)"
NOTED = (
    "stops.note(); ready()\n"
    "while not stops.noted(): time.sleep(0.01)\n"
    "print('care_jax: saved after', stops.noted(), file=sys.stderr)"
)


def _start(program: str, *, before: str = "", **streams: Any) -> subprocess.Popen:
    code = (  # with the signals that are ignored where nohup started the tests
        "import os, signal, sys, time; signal.alarm(20)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler); signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        f"{before}\nfrom care_jax import stops\nstops.install()\n"
        f"def ready(): print('ready', flush=True)\n{program}"
    )
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, **streams)
    _wait(process)
    return process


def _wait(process: subprocess.Popen) -> None:
    assert process.stdout is not None and process.stdout.readline() == "ready\n"


def _end(process: subprocess.Popen) -> tuple[int, list[str]]:
    _, err = process.communicate(timeout=15)
    return process.returncode, (err or "").splitlines()


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGTERM"])
def test_where_nothing_is_to_save_the_program_ends_at_once(name):
    process = _start(f"ready(); {IN_C}")
    process.send_signal(signal.Signals[name])
    status, lines = _end(process)
    assert status == 0
    assert lines == [
        f"care_jax: stopped by {name}: no step has been made since it started, so there is nothing to save; "
        "the same command goes on"
    ]


def test_no_file_takes_the_place_of_a_closed_stderr():
    """It would get what the libraries say there."""
    program = "ready(); print(sys.stderr.fileno(), file=sys.stderr); assert sys.stderr.fileno() == 2"
    process = _start(program, preexec_fn=lambda: os.close(2))
    assert process.wait(timeout=15) == 0 and process.stdout is not None and not process.stdout.read()


def test_what_takes_long_is_left_off():
    program = (
        "stops.note(); stops.check(); ready()\ntry:\n while True: stops.check(); time.sleep(0.01)\n"
        "except stops.Interrupted: print('left off', file=sys.stderr)"
    )
    process = _start(program)
    process.send_signal(signal.SIGTERM)
    assert _end(process) == (0, ["left off"])


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGTERM"])
def test_where_something_is_to_save_the_signal_is_noted(name):
    process = _start(NOTED)
    process.send_signal(signal.Signals[name])
    assert _end(process) == (0, [f"care_jax: saved after {name}"])


def test_a_second_sigint_ends_at_once_and_what_takes_long_is_said():
    process = _start(f"stops.note(); ready(); {IN_C}")
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    notice = process.stderr.readline()
    assert "SIGTERM: stopping after the step at hand and a save; Ctrl-C ends at once" in notice
    process.send_signal(signal.SIGHUP)  # systemd and logouts send both
    process.send_signal(signal.SIGTERM)  # only SIGINT does not wait, and no system call is broken off
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1.3)  # the notice is not said again
    process.send_signal(signal.SIGINT)
    status, lines = _end(process)
    assert status == 130
    assert lines == [
        "care_jax: ended at once by SIGINT: what was saved before is kept; the same command goes on from there"
    ]


def test_nothing_is_said_after_the_line_that_the_stop_is_done():
    """Its end, of the interpreter and of what is still being written, may take long too."""
    process = _start(NOTED + "\nstops.answered(); time.sleep(1.5)")
    process.send_signal(signal.SIGTERM)
    assert _end(process) == (0, ["care_jax: saved after SIGTERM"])


def test_a_pipe_that_is_full_and_that_nobody_reads_keeps_nothing_going():
    fill = "os.set_blocking(2, False)\ntry:\n while True: os.write(2, bytes(4096))\nexcept BlockingIOError: pass\n"
    process = _start(f"{fill}os.set_blocking(2, True); ready(); {IN_C}")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=15) == 0


@pytest.mark.parametrize("lost", ["pass", "sys.stderr.close()"])
def test_where_nothing_can_be_said_a_signal_ends_all_the_same(lost):
    reader, writer = os.pipe()
    process = _start(f"{lost}; ready(); {IN_C}", stderr=writer)
    os.close(writer)
    os.close(reader)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=15) == 0


def test_on_a_terminal_the_line_that_is_begun_is_ended():
    """With ^C, or with a bar."""
    terminal, stderr = os.openpty()
    process = _start(f"ready(); {IN_C}", stderr=stderr)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=15) == 0
    assert os.read(terminal, 1000).startswith(b"\r\ncare_jax: stopped by SIGINT: ")
    os.close(terminal)
    os.close(stderr)


def test_two_sigints_of_one_moment_are_one():
    """`timeout --signal=INT` sends two."""
    both = "os.write(signal.set_wakeup_fd(-1), bytes([signal.SIGINT] * 2)); time.sleep(0.3)"
    process = _start(NOTED.replace("ready()", f"ready(); {both}"))
    assert _end(process) == (0, ["care_jax: saved after SIGINT"])


def test_a_signal_noted_before_is_obeyed_where_nothing_is_lost_any_more():
    program = (
        f"stops.note(); ready()\nwhile not stops.noted(): time.sleep(0.01)\nstops.at_once('all is\\x1b saved')\n{IN_C}"
    )
    process = _start(program)
    process.send_signal(signal.SIGHUP)
    assert _end(process) == (0, ["care_jax: stopped by SIGHUP: all is\\x1b saved"])


def test_a_signal_that_is_ignored_stays_ignored():
    """As nohup does, and a shell script for its background jobs; one that is another's stays that."""
    before = "for name in ('SIGHUP', 'SIGINT'): signal.signal(signal.Signals[name], signal.SIG_IGN)"
    process = _start(NOTED, before=f"{before}\nsignal.signal(signal.SIGUSR1, lambda *_: None)")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
        process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.2)
    process.send_signal(signal.SIGTERM)
    assert _end(process) == (0, ["care_jax: saved after SIGTERM"])


def test_sigterm_is_taken_back_from_who_took_it():
    """jax.distributed does, in C; and what it agrees on begins with a SIGTERM, whatever came."""
    program = (
        "import ctypes; ctypes.CDLL(None).signal(signal.SIGTERM, 1)\n"  # SIG_IGN, unknown to Python
        "stops.note(tell=lambda: os.write(2, b'told\\n')); stops.note()\n"
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.1); assert not stops.noted()\n"
        f"stops.at_once('taken back'); os.kill(os.getpid(), signal.SIGTERM); {IN_C}"
    )
    assert _end(_start(f"ready()\n{program}")) == (0, ["care_jax: stopped by SIGTERM: taken back"])
    program = f"{NOTED}".replace("stops.note()", "stops.note(tell=lambda: os.write(2, b'told\\n')); stops.note()")
    process = _start(program)
    process.send_signal(signal.SIGINT)
    status, lines = _end(process)
    assert status == 0 and sorted(lines) == ["care_jax: saved after SIGINT", "told"]


def test_a_lost_terminal_loses_nothing_else():
    """`2>&1 | head`, a closed window: what can't be said is not said, and the program goes on."""
    reader, writer = os.pipe()
    program = f"ready(); sys.stdin.read(); print('lost\\n' * 9999, file=sys.stderr); sys.stderr.flush()\n{NOTED}"
    process = _start(program, stdin=subprocess.PIPE, stderr=writer)
    os.close(writer)
    os.close(reader)
    assert process.stdin is not None
    process.stdin.close()
    _wait(process)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=15) == 0
