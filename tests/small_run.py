"""A whole training run, small, as a program: tests start it, kill it, and start it again.

    python tests/small_run.py WORKDIR [--kills=12 --whole=ANOTHER]
    python tests/small_run.py WORKDIR --coordinator_address=... --num_processes=... --process_id=...

The loop, the checkpoints, the data and the devices are the real ones; only the encoder is one that compiles fast.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # a few steps are faster run than optimised
sys.path.insert(0, str(Path(__file__).parents[1]))  # beside an installed package: the one that is tested

from absl import app, flags, logging
from conftest import make_tiny_config, small_encoder

from care_jax import run, stops, workdir
from care_jax.command_line import say, user_errors
from care_jax.devices import distributed
from care_jax.experiment import build
from care_jax.train import loop

FLAGS = flags.FLAGS
flags.DEFINE_integer("kills", 0, "First start the run in a process of its own and kill it, this many times.")
flags.DEFINE_string("whole", None, "First of all train the same in this folder, in a process that nothing kills.")
flags.DEFINE_integer("num_steps", 6, "Updates.")
flags.DEFINE_integer("pause_at", 0, "Wait before this step, for longer than anyone does.")
flags.DEFINE_string("skip", None, "A file that all processes but the first can't use.")
flags.DEFINE_string("coordinator_address", None, "As of care_jax.main.")
flags.DEFINE_integer("num_processes", None, "As of care_jax.main.")
flags.DEFINE_integer("process_id", None, "As of care_jax.main.")


def small_experiment(num_steps: int) -> build.Experiment:
    """Plain SGD, because Adam divides rounding by rounding; a checkpoint every second step."""
    sgd = {"optimizer.name": "sgd", "optimizer.momentum": 0.0, "optimizer.learning_rate": 0.1}
    experiment = build.build(make_tiny_config(**{"train.num_steps": num_steps, **sgd}))
    return experiment._replace(encoder=small_encoder(width=128))


def train(path: Path) -> None:
    """From the newest checkpoint, or from the start."""
    stops.install()
    with user_errors():
        distributed.start(FLAGS.coordinator_address, FLAGS.num_processes, FLAGS.process_id)
        stop = loop.agreed_stop()
        experiment = small_experiment(FLAGS.num_steps)
        if FLAGS.pause_at:
            _pause(FLAGS.pause_at, build)
        if FLAGS.skip and not distributed.is_first():
            experiment.dataset.skipped.add(FLAGS.skip, "unreadable: Permission denied")
        if distributed.is_first():
            with workdir.claim(path, experiment.config):
                run.train(experiment, path, stop=stop)
        else:
            run.train(experiment, path, stop=stop)


def _pause(at_step: int, build_module: Any) -> None:
    """The batch of that step is slow to come, in the process that is not killed not a bit."""
    make = build_module.make_stacked_batches

    def slow(*arguments: Any) -> Iterator[Any]:
        for step, batch in enumerate(make(*arguments)):
            if step == at_step and not distributed.is_first():
                time.sleep(600)
            yield batch

    build_module.make_stacked_batches = slow


def kill_at_random_moments(path: Path) -> None:
    """The modules are loaded once, and every child starts JAX anew."""
    rng = random.Random(0)
    for kill in range(FLAGS.kills):
        child = os.fork()
        if child == 0:
            train(path)
            os._exit(0)
        before = _saved_steps(path)
        ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while kill % 4 == 3 and _saved_steps(path) == before and os.waitid(os.P_PID, child, ended) is None:
            time.sleep(0.02)  # so that some of them go on from what another saved, on a slow machine too
        time.sleep(rng.uniform(0.0, 0.3 if kill % 4 == 3 else 1.7))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        say(f"kill {kill + 1}: status {status}, saved steps {_saved_steps(path)}")


def _saved_steps(path: Path) -> list[int]:
    return sorted(int(folder.name) for folder in (path / "checkpoints").glob("*") if folder.name.isdigit())


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.FATAL)
    path = Path(argv[1])
    if FLAGS.whole:
        if (child := os.fork()) == 0:
            train(Path(FLAGS.whole))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    kill_at_random_moments(path)
    train(path)


if __name__ == "__main__":
    app.run(main)
