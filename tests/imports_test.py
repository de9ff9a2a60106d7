"""Imports flow one way: the order of the rooms."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "care_jax"
# Each may import those before it, never those after it.
ROOMS = [
    "errors",
    "extras",
    "rules",
    "stops",
    "storage",
    "machine",
    "loggers",
    "losses",
    "metrics",
    "augment",
    "models",
    "methods",
    "data",
    "devices",
    "train",
    "experiment",
    "failed_start",
    "foreign_folder",
    "workdir",
    "help",
    "command_line",
    "trained",
    "pretrained",
    "progress",
    "fits",
    "evaluate",
    "run",
    "main",
    "compare",
    "sweep",
    "embed",
    "neighbours",
    "measure",
    "export",
    "cost",
    "commands",
]
MODULES = sorted(PACKAGE.rglob("*.py"))


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imported_rooms(path: Path) -> set[str]:
    rooms, tree = set(), ast.parse(path.read_text())
    if path == PACKAGE / "__init__.py":  # it imports rooms when they are named; type checkers are told of them before
        tree.body = [node for node in tree.body if ast.unparse(node).partition(":")[0] != "if TYPE_CHECKING"]
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "care_jax" and len(parts) > 1 and parts[1] in ROOMS:
                rooms.add(parts[1])
    return rooms


def test_the_list_of_rooms_is_complete():
    assert {_room(path) for path in MODULES} - {"__init__"} == set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_above_it(path):
    room = _room(path)
    if room == "__init__":
        assert not _imported_rooms(path)
        return
    below = {other for other in _imported_rooms(path) if ROOMS.index(other) > ROOMS.index(room)}
    assert not below, f"{path.name} is in {room}, which comes before {sorted(below)}"


def test_losses_and_methods_import_what_they_may():
    assert all(not _imported_rooms(path) - {"losses"} for path in MODULES if _room(path) == "losses")
    assert all("evaluate" not in _imported_rooms(path) for path in MODULES if _room(path) == "train")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_under_300_lines(path):
    assert len(path.read_text().splitlines()) < 300
