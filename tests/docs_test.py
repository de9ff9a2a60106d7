"""The site has every page and every room, and the files that docstrings and pages name exist; `make docs` builds it."""

import ast
import importlib
import re
from pathlib import Path

import yaml

from tests.imports_test import ROOMS

ROOT = Path(__file__).parents[1]
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
# Made by the program, or by the reader of a page.
MADE = {"table.md", "sweep.md", "care_jax/methods/centered.py", "my_lab.py", "my_config.py", "my_clouds.py", "load.py"}
# Of the program rather than of the library: the command line and what keeps a run whole.
WITHOUT_PAGE = {"errors", "extras", "stops", "storage", "machine", "devices", "workdir", "command_line", "fits", "run"}
WITHOUT_PAGE |= {"main", "commands", "pretrained", "export", "failed_start", "help", "progress", "embed"}
WITHOUT_PAGE |= {"foreign_folder", "neighbours", "measure", "loggers"}


def _pages(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in _pages(part)]


def test_the_site_lists_every_page():
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(_pages(SITE["nav"])) == sorted(pages)


def test_every_room_has_a_page():
    for room in set(ROOMS) - WITHOUT_PAGE:
        assert f"::: care_jax.{room}\n" in (ROOT / "docs" / "api" / f"{room}.md").read_text()


def test_names_that_pages_import_are_public():
    pages = (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    text = "\n".join(path.read_text() for path in pages)
    rooms = "augment|data|losses|methods|metrics|models"
    found = re.findall(rf"^from care_jax\.({rooms})\S* import (.*)$", text, re.MULTILINE)
    assert {"TEMPERATURE", "namespace"} <= {name for _, names in found for name in names.split(", ")}
    for room, names in found:
        assert set(names.split(", ")) <= set(importlib.import_module(f"care_jax.{room}").__all__)


def _texts() -> dict[str, str]:
    """Pages, and docstrings file by file."""
    texts = {path.name: path.read_text() for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))}
    for folder in ("care_jax", "configs", "experiments", "benchmarks", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            nodes = ast.walk(ast.parse(path.read_text()))
            documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            found = [ast.get_docstring(node) or "" for node in nodes if isinstance(node, documented)]
            texts[str(path.relative_to(ROOT))] = "\n".join(found)
    return texts


def test_files_that_are_named_exist():
    folders = ("care_jax", "configs", "experiments", "benchmarks", "tests", "docs")
    there = [path for folder in folders for path in (ROOT / folder).rglob("*.*")] + list(ROOT.glob("*.md"))
    names = {f"/{path.relative_to(ROOT)}" for path in there}
    for source, text in _texts().items():
        for named in set(re.findall(r"[\w./-]*\w\.(?:md|py)\b", text)) - MADE:
            assert any(name.endswith(f"/{named}") for name in names), f"{source} names {named}"
