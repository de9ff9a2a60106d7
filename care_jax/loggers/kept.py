"""By which names a run is known elsewhere: `loggers.json` of its workdir, so that it goes on there too."""

import json
from pathlib import Path

from care_jax import storage

FILE = "loggers.json"


def kept(workdir: Path, logger: str) -> str:
    """The name that a logger has for the run in a workdir; empty where it has none, or the file can't be read."""
    return _read(workdir).get(logger, "")


def keep(workdir: Path, logger: str, name: str) -> None:
    """Notes it.

    Raises:
      OSError: it can't be written.
    """
    names = _read(workdir)
    if names.get(logger) != name:
        storage.replace_file(Path(workdir) / FILE, json.dumps(names | {logger: name}, indent=2) + "\n")


def forget(workdir: Path) -> None:
    """The run that begins in a workdir is a new one to every logger."""
    (Path(workdir) / FILE).unlink(missing_ok=True)


def _read(workdir: Path) -> dict[str, str]:
    try:
        names = json.loads((Path(workdir) / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return {key: name for key, name in names.items() if isinstance(name, str)} if isinstance(names, dict) else {}
