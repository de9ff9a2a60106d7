"""Starts a command with one mistake after the other, each in a process of its own; prints what it answered, as JSON.

    python tests/entry_points.py care_jax.main < mistakes.json

The modules are loaded once, and every mistake is made in a fork, which starts JAX anew.
"""

import importlib
import json
import os
import resource
import runpy
import sys
import tempfile
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # beside an installed package: the one that is tested

_SECONDS = 60
_WARM = ("care_jax.run", "care_jax.evaluate.results", "care_jax.devices.distributed", "care_jax.cost.estimate")
_WARM += ("care_jax.sweep.tables",)


def answer(module: str, arguments: list[str]) -> tuple[int, str]:
    """Exit status and standard error of `python -m module arguments`."""
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))  # what is taken for no mistake would train
            os._exit(_status(module, arguments))
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read()


def _status(module: str, arguments: list[str]) -> int:
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    for name in _WARM:
        importlib.import_module(name)
    print(json.dumps([answer(sys.argv[1], arguments) for arguments in json.load(sys.stdin)]))
