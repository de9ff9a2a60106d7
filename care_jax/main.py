"""The launcher: `python -m care_jax.main --config=configs/imagenet.py --workdir=runs/imagenet`.

Trains, or goes on where the same command was stopped; evaluates; writes summary.json and report.html into the workdir.
Any setting can be overridden: `--config.train.batch_size=512`. A mistake in the settings ends with one line, status 2.
"""

import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from care_jax.command_line import UsageError, parse_flags, user_errors

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file("config", None, "The configuration, configs/digits.py for instance.", lock_config=True)
flags.DEFINE_string("workdir", None, "Folder of this run: checkpoints, metrics, summary and report.")


def main(argv: list[str]) -> None:
    """Wires the flags to a run."""
    del argv
    logging.set_verbosity(logging.ERROR)  # orbax warns of what is meant
    with user_errors():
        if not FLAGS.workdir:
            raise UsageError("--workdir is missing: the folder of this run, --workdir=runs/mine for instance")
        # Imported late: a mistyped flag should answer at once.
        from care_jax import run

        finished = run.run(FLAGS.config, Path(FLAGS.workdir))
    if not finished:
        print("care_jax: stopped by SIGTERM, saved; the same command goes on from here", file=sys.stderr)


if __name__ == "__main__":
    app.run(main, flags_parser=lambda argv: parse_flags(argv, "--config=configs/digits.py"))
