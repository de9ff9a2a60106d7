"""Evaluates a run again from a checkpoint: `python -m care_jax.evaluate --workdir=runs/digits [--step=best]`."""

from care_jax import stops

if __name__ == "__main__":
    stops.install(  # before what takes time
        "nothing is lost, summary.json and report.html are each the old one or the new; the same command evaluates"
    )

from pathlib import Path

from absl import app, flags, logging

from care_jax import build
from care_jax.command_line import UsageError, parse_flags, say, user_errors
from care_jax.config import read_config
from care_jax.evaluate import results
from care_jax.train.checkpoint import Checkpoints
from care_jax.workdir import claim

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Folder of the run; its summary.json and report.html are written anew.")
flags.DEFINE_string("step", "", "The checkpoint: a step, 'best', or nothing for the newest.")


def main(argv: list[str]) -> None:
    """Wires the flags to an evaluation."""
    del argv
    logging.set_verbosity(logging.FATAL)  # orbax warns of what is meant, and logs what it raises
    with user_errors():
        if not FLAGS.workdir:
            raise UsageError("--workdir is missing: the folder of a run, --workdir=runs/digits for instance")

        workdir = Path(FLAGS.workdir)
        config = read_config(workdir)
        # Opening checkpoints clears away unfinished ones: those of a run that is going on must not be.
        with claim(workdir, config):
            experiment = build.build(config)
            checkpoints = Checkpoints(workdir / "checkpoints", keep_last=config.train.keep_last, warn=say)
            step = _step(FLAGS.step, checkpoints)
            state, info = checkpoints.restore(build.abstract_state(experiment), step)
            results.write(experiment, workdir, state.variables, step=int(state.step), seconds=info["seconds"])
            say(f"step {int(state.step)} evaluated: {workdir / 'summary.json'}, {workdir / 'report.html'}")
            checkpoints.close()


def _step(text: str, checkpoints: Checkpoints) -> int | None:
    if not text:
        return None
    if text == "best":
        best = checkpoints.best_step()
        if best is None:
            raise UsageError("--step=best: no checkpoint of this run was ranked (no labels, or none evaluated yet)")
        return best
    if not text.isdigit():
        raise UsageError(f"--step={text}: give a step, 'best', or leave it out for the newest checkpoint")
    return int(text)


if __name__ == "__main__":
    app.run(main, flags_parser=lambda argv: parse_flags(argv, ""))
