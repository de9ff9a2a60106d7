"""What is installed: every room, the bundled configurations, and a launcher that works from any folder."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_every_room_is_installed():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "care_jax").rglob("__init__.py")}
    rooms = {".".join(folder.parts) for folder in folders}
    assert set(settings["packages"]) == rooms | {"care_jax.configs"}
    assert settings["package-dir"] == {"care_jax.configs": "configs"}


@pytest.mark.slow
def test_a_wheel_works_from_any_folder(tmp_path):
    """Also from one that has a `configs` of its own; what it needs is there already, so only itself is installed."""
    source, installed, elsewhere = (tmp_path / name for name in ("source", "installed", "elsewhere"))
    for folder in ("care_jax", "configs"):  # a build leaves its own behind
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "requirements.txt", "README.md"):
        shutil.copy(ROOT / file, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", str(installed), str(source)], check=True)
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
