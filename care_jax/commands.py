"""The console script: `care-jax cost ...` is `python -m care_jax.cost ...`, and so for each command."""

import os
import runpy
import sys
from collections.abc import Sequence
from contextlib import suppress

from care_jax.errors import printable

# Name -> the module that it runs.
COMMANDS = {
    "train": "care_jax.main",
    "evaluate": "care_jax.evaluate",
    "embed": "care_jax.embed",
    "neighbours": "care_jax.neighbours",
    "export": "care_jax.export",
    "compare": "care_jax.compare",
    "sweep": "care_jax.sweep",
    "measure": "care_jax.measure",
    "configs": "care_jax.configs",
    "cost": "care_jax.cost",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command that the first argument names with the rest; a mistake ends with one line and status 2.

    Args:
      argv: without the script's name; None: of this process.
    """
    name, *rest = list(sys.argv[1:] if argv is None else argv) or [""]
    if name in COMMANDS:
        sys.argv = [f"care-jax {name}", *rest]
        _find_modules_here()
        runpy.run_module(COMMANDS[name], run_name="__main__", alter_sys=True)
        return
    there = f"there are {', '.join(COMMANDS)}"
    if name in ("-h", "--help", "help"):
        print(f"care-jax COMMAND --FLAG=VALUE ...; {there}; care-jax COMMAND --help names the flags")
        return
    told = f"{name!r} is no command" if name else "a command is missing"
    print(f"care_jax: {printable(told)}; {there}", file=sys.stderr, flush=True)
    sys.exit(2)


def _find_modules_here() -> None:
    """The current folder is searched first, as by `python -m`: extensions may lie in it."""
    with suppress(OSError):  # a current folder that was deleted has no modules
        here = os.getcwd()
        if not sys.flags.safe_path and sys.path[:1] != [here]:
            sys.path.insert(0, here)
