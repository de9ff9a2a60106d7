"""What the README and the guides print is true: Python runs, commands, flags, settings, targets and links exist."""

import re
import tomllib
from pathlib import Path

import pytest

from care_jax.configs import base
from care_jax.experiment.config import leaves

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "BENCHMARKS.md", "RESULTS.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))


def _blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def test_the_readme_is_short_and_begins_with_the_mission():
    assert len(README.splitlines()) <= 200
    order = "L_CARE", "make run", "make test", "bin/activate", "**Platforms.**", "docs/images/", "**Contents**"
    order += "## Your own data", "## Does it work?", "## Add a method", "## Use the parts", "## Cite"
    assert sorted(order, key=README.index) == list(order)
    assert all(path.stat().st_size < 150_000 for path in (ROOT / "docs" / "images").iterdir())


def test_python_is_run_by_a_test():
    # The others by extending_test.py.
    assert [page.name for page in PAGES if _blocks(page)] == ["README.md", "clouds.md", "extending.md"]


@pytest.mark.slow
@pytest.mark.parametrize("code", _blocks(ROOT / "README.md"), ids=lambda code: code.splitlines()[0])
def test_python_runs_as_printed(code):
    exec(compile(code, "README.md", "exec"), {"__name__": "block"})


def _commands(text: str) -> list[list[str]]:
    """Words of each command in a page's code: blocks, their continued lines joined, and between backquotes."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE) + re.findall(
        r"(?:^ {4,}.*\n)+", text, re.MULTILINE
    )
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
    commands = []
    for line in lines + re.findall(r"`([^`\n]+)`", text):
        found = re.search(r"(python -m (?:care_jax|experiments|benchmarks)\.\w|make |pip install )[^#&|]*", line)
        if found:
            commands.append([word.strip("'\"") for word in found[0].split()])
    return commands


def _source(module: str) -> str:
    path = ROOT / module.replace(".", "/")
    file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    return file.read_text() if file.is_file() else ""


def _flags(module: str) -> set[str]:
    """Those that a command defines, itself or in a file of ours that it imports."""
    source = _source(module)
    assert source, module
    ours = re.findall(r"^from ((?:care_jax|experiments|benchmarks)\.[\w.]+) import", source, re.MULTILINE)
    for names in re.findall(r"^from experiments import (.*)", source, re.MULTILINE):
        ours += [f"experiments.{name.strip()}" for name in names.split(",")]
    sources = "\n".join([source, *map(_source, ours)])
    return set(re.findall(r"""(?:DEFINE_\w+\(\s*"|add_argument\("--)(\w+)""", sources))


@each_page
def test_commands_are_there(page):
    for words in _commands(page.read_text()):
        if words[0] == "python":
            given = {word.lstrip("-").partition("=")[0] for word in words[3:] if word.startswith("--")}
            assert {flag.partition(".")[0] for flag in given} - {"config", "help"} <= _flags(words[2]), words
        elif words[0] == "make":
            targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert {word for word in words[1:] if "=" not in word} - {"..."} <= set(targets), words
        else:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            named = re.findall(r"\[([\w,]+)\]", " ".join(words))
            assert set(",".join(named).split(",")) - {""} <= set(extras), words


@each_page
def test_settings_are_there(page):
    """Or are those of a method that the page itself writes."""
    text = page.read_text()
    words = re.findall(r"\w+", "\n".join(_blocks(page)))
    known = set(leaves(base.get_config())) | set(leaves(base.for_clouds()))
    known |= {f"{section}.{word}" for section in ("loss", "equivariance") for word in words}
    assert set(re.findall(r"--config\.([\w.]+)=", text)) <= known
    for file in re.findall(r"--config=(\S+?\.py)", text):
        assert file in ("my_config.py", "my_clouds.py") or (ROOT / file).is_file(), file


@each_page
def test_links_lead_somewhere(page):
    text = page.read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.*)", target.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, link
