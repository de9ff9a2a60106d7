"""The launcher: `python -m care_jax.main --config=configs/imagenet.py --workdir=runs/imagenet`.

Trains, or goes on where the same command was stopped; evaluates; writes summary.json and report.html into the workdir.
Any setting can be overridden: `--config.train.batch_size=512`. A mistake in the settings ends with one line, status 2;
a signal that asks to stop (Ctrl-C, SIGHUP, SIGTERM) with one line, status 0, and nothing lost.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install()  # before what takes time
    extras.require_train()

from absl import app, flags, logging
from ml_collections import config_flags

from care_jax.command_line import UsageError, fail, given_settings, parse_flags, say, user_errors
from care_jax.storage import local_path

FLAGS = flags.FLAGS
try:
    config_flags.DEFINE_config_file(
        "config", None, "The configuration, configs/digits.py for instance.", lock_config=True
    )
except flags.Error as error:  # a --flagfile that can't be read, which ml_collections opens here
    fail(str(error))
flags.DEFINE_string("workdir", None, "Folder of this run: checkpoints, metrics, summary and report.")
flags.DEFINE_bool("compilation_cache", True, "Keep what is compiled in the user's cache folder, for the next start.")
flags.DEFINE_string("coordinator_address", None, "Several processes: host:port of the first. SLURM and TPUs need none.")
flags.DEFINE_integer("num_processes", None, "Several processes: how many.")
flags.DEFINE_integer("process_id", None, "Several processes: which one this is, from 0.")


def main(argv: list[str]) -> None:
    """Wires the flags to a run."""
    del argv
    logging.set_verbosity(logging.FATAL)  # what the libraries warn of in a save is said all the same
    with user_errors():
        if not FLAGS.workdir:
            raise UsageError("--workdir is missing: the folder of this run, --workdir=runs/mine for instance")
        # Imported late: a mistyped flag should answer at once.
        from care_jax import run
        from care_jax.devices import compilation_cache, cores, distributed
        from care_jax.experiment import continuation, extensions, unused

        distributed.start(FLAGS.coordinator_address, FLAGS.num_processes, FLAGS.process_id)
        compilation_cache.switch_on(FLAGS.compilation_cache, warn=say)
        workdir = local_path(FLAGS.workdir, "--workdir")
        cores.share_out(continuation.cut_batches(FLAGS.config, workdir))
        extensions.load(FLAGS.config)
        unused.report(FLAGS.config, given_settings(), run.tell)
        run.run(FLAGS.config, workdir)


if __name__ == "__main__":
    app.run(main, flags_parser=lambda argv: parse_flags(argv, "--config=configs/digits.py"))
