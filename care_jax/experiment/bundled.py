"""The configurations that come with the package."""

import ast
from importlib.util import find_spec
from pathlib import Path


def bundled_configs() -> dict[str, Path]:
    """Their files, by name."""
    spec = find_spec("care_jax.configs")
    folders = spec.submodule_search_locations if spec and spec.submodule_search_locations else []
    files = (path for folder in folders for path in sorted(Path(folder).glob("*.py")))
    return {path.stem: path for path in files if path.stem != "__init__"}


def first_line(file: Path) -> str:
    """What a configuration is, in its own words; the file is read, not run."""
    docstring = ast.get_docstring(ast.parse(file.read_bytes())) or ""
    return docstring.partition("\n")[0]
