"""What is installed and what it needs: rooms, bundled configurations, packages, a launcher that works anywhere."""

import ast
import importlib
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import care_jax
from care_jax import data, extras, run
from care_jax.data import DataError
from care_jax.experiment import build

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NEEDED = {"core": PROJECT["project"]["dependencies"], **PROJECT["project"]["optional-dependencies"]}
# What `pip install care_jax` alone can do.
CORE_ROOMS = ("losses", "metrics", "augment", "models")


def _imports(tree: ast.Module) -> set[str]:
    """Top-level packages imported as a file is loaded."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return {name.partition(".")[0] for name in names} - {"care_jax", *sys.stdlib_module_names}


def test_every_room_is_installed():
    settings = PROJECT["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "care_jax").rglob("__init__.py")}
    rooms = {".".join(folder.parts) for folder in folders}
    assert set(settings["packages"]) == rooms | {"care_jax.configs"}
    assert settings["package-dir"] == {"care_jax.configs": "configs"}


def test_requirements_list_what_is_needed_with_the_same_bounds():
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    listed = [Requirement(line) for line in lines if line]
    needed = [Requirement(line) for extra in ("core", "train", "tfds") for line in NEEDED[extra]]
    assert sorted(map(str, listed)) == sorted(map(str, needed))
    assert all(requirement.specifier for requirement in listed)


def test_the_core_needs_what_its_rooms_import():
    files = [file for room in CORE_ROOMS for file in (ROOT / "care_jax" / room).rglob("*.py")]
    imported = set().union(*(_imports(ast.parse(file.read_text())) for file in files))
    assert imported == {Requirement(line).name for line in NEEDED["core"]}
    assert not _imports(
        ast.parse((ROOT / "care_jax" / "__init__.py").read_text())
    )  # nor does `import care_jax` load JAX


def test_commands_check_all_packages_of_training():
    distributions = packages_distributions()
    checked = {name.lower().replace("_", "-") for package in extras.TRAIN for name in distributions[package]}
    assert checked >= {Requirement(line).name.lower() for line in NEEDED["train"]} - {"simplejpeg", "safetensors"}


def test_a_command_without_a_package_names_the_extra(monkeypatch, capsys):
    extras.require_train()
    monkeypatch.setattr(extras, "TRAIN", ("jax", "no_such_package"))
    with pytest.raises(SystemExit) as left:
        extras.require_train()
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said == "care_jax: commands need no_such_package too: pip install 'care_jax[train]'\n"


def test_rooms_are_at_hand():
    assert set(care_jax.__all__) <= set(dir(care_jax)) and set(CORE_ROOMS) < set(care_jax.__all__)
    for room in care_jax.__all__:
        assert care_jax.__getattr__(room) is importlib.import_module(f"care_jax.{room}")
    with pytest.raises(AttributeError, match="no attribute 'loses'"):
        care_jax.loses  # noqa: B018
    assert not {"Path", "ModuleType", "TYPE_CHECKING", "importlib", "sys"} & set(dir(care_jax))


def test_type_checkers_know_the_rooms_and_no_other_names():
    """A `__getattr__` that they saw would make a module of unknown types of any name."""
    nodes = ast.parse((ROOT / "care_jax" / "__init__.py").read_text()).body
    seen = {ast.unparse(node.test): node for node in nodes if isinstance(node, ast.If)}
    (imports,) = seen["TYPE_CHECKING"].body
    assert ast.unparse(imports) == f"from care_jax import {', '.join(sorted(care_jax.__all__))}"
    assert [node.name for node in seen["not TYPE_CHECKING"].body] == ["__getattr__"]
    assert "__getattr__" not in {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def test_a_room_without_its_packages_names_the_extra(monkeypatch):
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(care_jax.importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"care_jax\.data needs care_jax\.data: pip install 'care_jax\[train\]'"):
        care_jax.__getattr__("data")


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == care_jax.__version__
    assert citation["license"] == PROJECT["project"]["license"] == "Apache-2.0"
    assert citation["preferred-citation"]["title"].startswith("Structuring Representation Geometry")


@pytest.mark.slow
def test_what_needs_tensorflow_names_the_extra(monkeypatch, tiny_config, small_encoder, tmp_path):
    """Digits and folders train without it (main_test, run_test)."""
    for name in ("tensorflow", "tensorflow_datasets"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    monkeypatch.setattr(build, "make_encoder", lambda config: small_encoder())
    named = pytest.raises(DataError, match=r"pip install 'care_jax\[tfds\]'")
    with named:
        data.load("cifar10")
    with named:
        run.run(tiny_config(augment__placement="decode"), tmp_path)


@pytest.mark.slow
def test_a_wheel_works_from_any_folder(tmp_path):
    """Also from one that has a `configs` of its own; what it needs is there already, so only itself is installed."""
    source, installed, elsewhere = (tmp_path / name for name in ("source", "installed", "elsewhere"))
    for folder in ("care_jax", "configs"):  # a build leaves its own behind
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / file, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", str(installed), str(source)], check=True)
    (described,) = installed.glob("care_jax-*.dist-info")
    assert "License-Expression: Apache-2.0\n" in (described / "METADATA").read_text()
    assert (described / "licenses" / "LICENSE").exists() and (installed / "care_jax" / "py.typed").exists()
    (elsewhere / "configs").mkdir(parents=True)
    (elsewhere / "configs" / "__init__.py").write_text("")
    (elsewhere / "configs" / "base.py").write_text("raise RuntimeError('the wrong one')")
    own = elsewhere / "own.py"
    own.write_text("from care_jax.configs import digits\n\n\ndef get_config():\n    return digits.get_config()\n")
    told = {}
    for config in ("digits", str(installed / "care_jax" / "configs" / "digits.py"), "own.py"):
        # Settings that are refused once they are read, and say what was read.
        flags = [f"--config={config}", "--workdir=run", "--config.train.batch_size=1000000"]
        done = subprocess.run(
            [sys.executable, "-c", _LAUNCH, *flags],
            cwd=elsewhere,
            env={**os.environ, "PYTHONPATH": str(installed), "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2, done.stderr
        told[config] = done.stderr
        assert str(installed) in done.stdout
    assert len(set(told.values())) == 1 and "1438 training images of digits" in told["digits"]


# As `python -m care_jax.main`, and it says which package it was. An editable install of the checkout comes after.
_LAUNCH = """
import runpy, sys, care_jax
print(care_jax.__file__)
runpy.run_module("care_jax.main", run_name="__main__", alter_sys=True)
"""
