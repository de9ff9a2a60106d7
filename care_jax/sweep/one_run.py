"""A run of a table as a process of its own: `python -m care_jax.sweep.one_run FOLDER CORES < settings.json`.

CORES are numbers with commas, or nothing for all that this process may use.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install()  # before what takes time
    extras.require_train()

import json
import os
import sys
from pathlib import Path

if __name__ == "__main__" and sys.argv[2]:
    # Before libraries start their threads, one a core that they may use.
    os.sched_setaffinity(0, [int(core) for core in sys.argv[2].split(",")])

from absl import logging

from care_jax.command_line import say, user_errors
from care_jax.devices import compilation_cache, cores
from care_jax.experiment import continuation
from care_jax.experiment.config import from_plain
from care_jax.sweep.runs import finished_run


def main() -> None:
    """Makes the run, unless it is there."""
    logging.set_verbosity(logging.ERROR)  # orbax warns of what is meant
    with user_errors():
        compilation_cache.switch_on(warn=say)
        config = from_plain(json.load(sys.stdin))
        workdir = Path(sys.argv[1])
        cores.share_out(continuation.cut_batches(config, workdir))
        finished_run(config, workdir)


if __name__ == "__main__":
    main()
