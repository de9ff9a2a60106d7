"""Evaluates a run again from a checkpoint: `python -m care_jax.evaluate runs/digits [--step=best]`.

The settings are the run's. Those of the evaluation may be changed, and where the data lies:
`--config.evaluate.knn_k=20 --config.data.root=elsewhere`.

With `--baseline=RUN` the report has another run's numbers beside these, as far as the two compare; a run of a sweep
finds the one with equivariance.weight=0 by itself.

With `--on` the frozen encoder is judged on another data set, `--on=cifar10` or `--on=FOLDER` of images (of protein
structures for a run on clouds of points), and the numbers go to `transfer/NAME.json` in the folder of the run, whose
own summary.json and report.html stay: docs/transfer.md.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install(  # before what takes time
        "nothing is lost, summary.json and report.html are each the old one or the new; the same command evaluates"
    )
    extras.require_train()

from contextlib import suppress
from pathlib import Path

import jax
import ml_collections
from absl import app, flags, logging

from care_jax import fits, help, trained
from care_jax.command_line import UsageError, fail, given_settings, parse_flags, say, user_errors
from care_jax.devices import compilation_cache, cores, sharding
from care_jax.evaluate import baseline, results, transfer
from care_jax.evaluate.evaluation import Evaluation
from care_jax.experiment import build, extensions, unused
from care_jax.experiment.build import Experiment
from care_jax.experiment.config import read_config
from care_jax.experiment.continuation import changes_beyond_evaluation
from care_jax.storage import local_path
from care_jax.train.checkpoint import Checkpoints
from care_jax.train.checkpoint_files import CheckpointError
from care_jax.workdir import check_data, hold, recover_config

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Folder of the run; its summary.json and report.html are written anew.")
flags.DEFINE_string("step", "", "The checkpoint: a step, 'best', or nothing for the newest.")
flags.DEFINE_bool("compilation_cache", True, "Keep what is compiled in the user's cache folder, for the next start.")
flags.DEFINE_string("on", None, "Another data set: digits, cifar10, ..., a configuration file, or a folder.")
flags.DEFINE_string("baseline", None, "Folder of another finished run, whose numbers the report has beside these.")
flags.DEFINE_string("out", None, "With --on: the JSON file; without a value WORKDIR/transfer/NAME.json.")


def main(argv: list[str]) -> None:
    """Wires the flags to an evaluation."""
    del argv
    logging.set_verbosity(logging.FATAL)  # what the libraries warn of in a save is said all the same
    with user_errors():
        if not FLAGS.workdir:
            raise UsageError("--workdir is missing: the folder of a run, care-jax evaluate runs/digits for instance")
        compilation_cache.switch_on(FLAGS.compilation_cache, warn=say)
        cores.share_out()
        workdir = local_path(FLAGS.workdir, "--workdir")
        unused.report(FLAGS.config, given_settings(), say)
        if FLAGS.on is not None and FLAGS.baseline is not None:
            raise UsageError(
                f"--baseline={FLAGS.baseline} is for the report of the run's own data, which --on leaves alone"
            )
        if FLAGS.on is not None:
            transfer.evaluate_on(workdir, FLAGS.config, FLAGS.on, step=FLAGS.step, out=FLAGS.out or "")
        elif FLAGS.out is not None:
            raise UsageError(f"--out={FLAGS.out} is for --on; the run's own numbers go to its summary.json")
        else:
            beside = local_path(FLAGS.baseline, "--baseline") if FLAGS.baseline is not None else None
            evaluate_again(workdir, FLAGS.config, FLAGS.step, beside)


def evaluate_again(
    workdir: Path, config: ml_collections.ConfigDict, step: str = "", beside: Path | None = None
) -> None:
    """Writes summary.json and report.html anew.

    Args:
      workdir: folder of the run.
      config: the run's, but for settings of the evaluation and the place of the data.
      step: as the flag.
      beside: folder of the baseline; None: that of a sweep, if there is one.

    Raises:
      UserError: one line, for other settings, other data, or a checkpoint that can't be used.
    """
    run_config = read_config(workdir)
    refused = changes_beyond_evaluation(run_config, config)
    if refused:
        raise UsageError(f"an evaluation may change config.evaluate.* and config.data.root, not {'; '.join(refused)}")
    if beside is not None:
        baseline.read(beside, workdir, config)  # before what takes time
    # Opening checkpoints clears away unfinished ones: those of a run that is going on must not be.
    with hold(workdir, warn=say) as claimed:
        checkpoints = Checkpoints(workdir / "checkpoints", keep_last=config.train.keep_last, warn=say)
        if not checkpoints.steps():
            raise CheckpointError(f"no checkpoint in {checkpoints.directory}: nothing was saved yet, train first")
        # Evaluation cuts batches of its own: the devices here need not divide the one that the run was trained with.
        experiment = build.build(config, sharding.make_mesh(jax.devices()[:1]))._replace(mesh=sharding.make_mesh())
        check_data(workdir, experiment.dataset)
        _tell_skipped(experiment)
        with fits.told(config, "evaluation"):
            state, info = checkpoints.restore(build.abstract_state(experiment), _step(step, checkpoints))
        for line in extensions.edited(config, info.get("extensions")):
            say(line)
        evaluation = Evaluation(experiment)
        results.write(
            evaluation,
            workdir,
            state.variables,
            step=int(state.step),
            seconds=info["seconds"],
            device=info.get("device"),
            check=claimed.check,
            beside=beside,
        )
        _tell_skipped(experiment)
        say(f"step {int(state.step)} evaluated: {workdir / 'summary.json'}, {workdir / 'report.html'}")
        checkpoints.close()


def _tell_skipped(experiment: Experiment) -> None:
    """Of files that could not be used, where there are more than when it was last told."""
    if news := experiment.dataset.skipped.news():
        say(news)


def _step(text: str, checkpoints: Checkpoints) -> int | None:
    if text != "best":
        return trained.step_number(text)
    best = checkpoints.best_step()
    if best is None:
        raise UsageError(trained.NO_BEST)
    return best


def parse(argv: list[str], flag_values: flags.FlagValues = FLAGS) -> list[str]:
    """The flags, those of the settings too: names and types are those of the run, a word or --workdir."""
    config, first = None, flags.FlagValues()
    for name in ("workdir", "on"):
        flags.DEFINE_string(name, None, "", flag_values=first)
    with suppress(flags.Error):  # which the parser proper will say
        first(help.without(argv), known_only=True)
    first.mark_as_parsed()  # also after an error
    word = "" if first.workdir else trained.first_word(argv, flag_values)
    if word or first.workdir:
        with user_errors():
            workdir = local_path(word or first.workdir, "--workdir")
            if first.on is None:
                recover_config(workdir, say)
                config = read_config(workdir)
            else:
                config = transfer.config_on(trained.config_of(workdir, trained.step_flag(argv)), first.on)
    changed = ("evaluate.", "data.root", "augment.num_threads") if first.on is None else ("evaluate.", "data.")
    words = parse_flags(argv, "", flag_values, config, words=True, shown=lambda name: name.startswith(changed))
    for further in words[2 if word else 1 :]:
        fail(f"{further!r} is one word too many; settings are given as --config.section.key=value")
    if word:
        flag_values["workdir"].value = word
    return words[:1]


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
