"""The console script runs each command as its module would, and says in a line what it does not know."""

import runpy
import sys
from importlib.util import find_spec

import pytest

from care_jax import commands


@pytest.fixture
def ran(monkeypatch):
    """(module, its command line) of each call."""
    calls = []
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["care-jax"])
    monkeypatch.setattr(runpy, "run_module", lambda module, **options: calls.append((module, list(sys.argv), options)))
    return calls


def test_a_command_is_its_module_with_the_rest_of_the_line(ran):
    commands.main(["cost", "--config=digits", "--topology=cpu"])
    options = {"run_name": "__main__", "alter_sys": True}
    assert ran == [("care_jax.cost", ["care-jax cost", "--config=digits", "--topology=cpu"], options)]


def test_modules_of_the_current_folder_are_found_as_by_python_m(ran, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/usr/bin", "/elsewhere"])
    for _ in range(2):
        commands.main(["cost"])
    assert sys.path == [str(tmp_path), "/usr/bin", "/elsewhere"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ([], "care_jax: a command is missing; there are THESE\n"),
        (["coast"], "care_jax: 'coast' is no command; there are THESE\n"),
        (["\x1b[31m"], "care_jax: '\\x1b[31m' is no command; there are THESE\n"),
    ],
)
def test_what_is_no_command_is_one_line(ran, capsys, line, said):
    with pytest.raises(SystemExit) as left:
        commands.main(line)
    assert left.value.code == 2 and not ran
    assert capsys.readouterr().err == said.replace("THESE", ", ".join(commands.COMMANDS))


def test_help_names_the_commands(ran, capsys):
    commands.main(["--help"])
    assert "there are train, evaluate, embed, " in capsys.readouterr().out and not ran


def test_every_command_is_there():
    assert all(find_spec(module) for module in commands.COMMANDS.values())
