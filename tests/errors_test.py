"""What reaches a terminal: one line, nothing in it that a terminal would obey."""

import doctest

import pytest

from care_jax import errors
from care_jax.command_line import fail, say
from care_jax.errors import printable

RAW = "a\x1b[2Jb\nc\td\r\u202ee\x00f\u2028g\udcffh\x7f\x9b31m é 写"


def test_nothing_is_left_that_a_terminal_obeys():
    line = printable(RAW)
    assert line == r"a\x1b[2Jb c d \u202ee\x00f g\udcffh\x7f\x9b31m é 写"
    assert line.isprintable() and line.encode()


def test_all_that_is_printed_goes_through_it(capsys):
    say(RAW)
    with pytest.raises(SystemExit):
        fail(RAW)
    said, failed = capsys.readouterr().err.splitlines()
    assert said == failed == f"care_jax: {printable(RAW)}"


def test_examples():
    assert doctest.testmod(errors).failed == 0
