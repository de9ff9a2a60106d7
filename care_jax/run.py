"""One run from start to end: train or go on, evaluate, and leave summary.json and report.html in the workdir."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import ml_collections

from care_jax import data, fits, loggers, pretrained, stops, storage
from care_jax.command_line import say
from care_jax.data import CLASS, tfds
from care_jax.data.colors import SAMPLE
from care_jax.devices import accelerator, agreement, provenance, sharding, to_the_first, turns
from care_jax.devices.distributed import is_first
from care_jax.evaluate import evaluators, results
from care_jax.evaluate.evaluation import Evaluation, monitors
from care_jax.evaluate.measure import UNTRAINED
from care_jax.experiment import build, choice, extensions, unused
from care_jax.experiment.build import Experiment
from care_jax.experiment.config import leaves
from care_jax.experiment.online_probe import make_probe
from care_jax.experiment.settings import COLORS
from care_jax.train import loop
from care_jax.train.checkpoint import Checkpoints
from care_jax.train.metric_writer import MetricWriter
from care_jax.train.online_probe import Beside
from care_jax.train.state import TrainState
from care_jax.train.step import TrainStep
from care_jax.train.timetable import Timetable, periods
from care_jax.train.trace import traced
from care_jax.workdir import Claim, check_data, claim, plain


def run(config: ml_collections.ConfigDict, workdir: Path) -> bool:
    """Trains what is left to train, evaluates, reports.

    With several processes, each calls it with the same arguments; the first one writes.

    Args:
      config: as configs/base.py builds it.
      workdir: folder of the run, shared by its processes; made if missing. Where it holds a checkpoint of the same
        configuration, training goes on from there.

    Returns:
      False where a signal stopped training (it is saved, and said).

    Raises:
      ConfigError, DataError, CheckpointError, NonFiniteLossError, WorkdirError, DistributedError: one line for the
        user.
    """
    extensions.load(config)
    agreement.check_settings(_settings(config) | extensions.versions(config), workdir)
    mesh = sharding.make_mesh()
    agreement.check_devices()
    stop = loop.agreed_stop()
    build.check(config, mesh)
    monitors(config)
    names = loggers.chosen(config.train.loggers)
    loggers.check_installed(names)
    if note := accelerator.unused():
        tell(note)
    initial = pretrained.for_run(config, workdir)
    with claim(workdir, config, warn=tell) if is_first() else nullcontext() as claimed:
        check = claimed.check if claimed else lambda: None
        kept = agreement.of_the_first("what the run chose when it began", lambda: claimed.kept if claimed else {})
        kept |= initial.chosen if initial else {}
        _prepare_data(config)
        experiment = build.build(choice.filled(config, kept))
        if is_first():
            check_data(workdir, experiment.dataset)
        agreement.check_data(lambda: data.describe(experiment.dataset), workdir)
        _settle(experiment, claimed)
        evaluation = make_evaluation(experiment)
        with loggers.opened(
            names if is_first() else (), workdir, leaves(plain(experiment.config)), say=tell, warn=tell
        ) as opened:
            with fits.told(experiment.config, "training"):
                outcome = train(experiment, workdir, evaluation, initial=initial, check=check, stop=stop, to=opened)
            _tell_skipped(experiment)
            if outcome.stopped_by:
                step = int(outcome.state.step)
                stops.answered()
                tell(f"stopped by {outcome.stopped_by}: step {step} is saved; the same command goes on from there")
                return False
            stops.at_once("training is finished and saved; the same command goes on with the evaluation")
            summary = results.write(
                evaluation,
                workdir,
                outcome.state.variables,
                step=experiment.num_steps,
                seconds=outcome.seconds,
                device=outcome.info["device"],
                check=check,
                to=opened,
            )
            _tell_skipped(experiment)
            stops.at_once(f"{workdir} is finished, its numbers and its report are written")
        shown = [name for name, measure in evaluators.measures((CLASS,)).items() if measure.headline]
        numbers = ", ".join(f"{name} {summary[name]:.4g}" for name in shown if summary.get(name) is not None)
        if numbers:
            tell(numbers)
        tell(f"{workdir / 'summary.json'} has all numbers, {workdir / 'report.html'} the pictures")
    return True


def train(
    experiment: Experiment,
    workdir: Path,
    evaluation: Evaluation | None = None,
    *,
    initial: pretrained.InitialWeights | None = None,
    check: Callable[[], None] = lambda: None,
    stop: Callable[[], str] = lambda: "",
    to: loggers.Loggers | None = None,
) -> loop.Outcome:
    """Trains to the last step from the newest checkpoint in `workdir`, or from the start.

    Args:
      experiment: what to train, on what.
      workdir: folder of the run.
      evaluation: of the experiment, that its monitors and what comes after share embeddings; None for one of its own.
      initial: what `model.init_from` names; None where it has no value, or is to be read here.
      check: called before each save; raises where the folder is no longer the run's.
      stop: as of `loop.run`.
      to: told of every row.
    """
    config = experiment.config
    evaluation = evaluation or make_evaluation(experiment)
    checkpoints = Checkpoints(workdir / "checkpoints", keep_last=config.train.keep_last, warn=tell, check=check)
    try:
        saved = checkpoints.steps()
        probe = make_probe(experiment)
        if initial is None and not saved:
            initial = pretrained.read(config)
        evaluate_every, checkpoint_every = periods(
            config.train.evaluate_every_epochs, config.train.checkpoint_every_epochs, experiment.steps_per_epoch
        )
        timetable = Timetable(
            num_steps=experiment.num_steps,
            log_every=config.train.log_every,
            evaluate_every=evaluate_every,
            checkpoint_every=checkpoint_every,
            batch_size=config.train.batch_size,
            steps_per_call=config.train.steps_per_call,
        )
        _describe(experiment)
        for line in timetable.notes(monitors(config).get("knn") if experiment.dataset.num_classes else None):
            tell(line)
        counts = set(timetable.counts(max(saved, default=0)))
        began = time.perf_counter()
        programs = fits.compile_steps(experiment, counts, probe=probe, goes_on=bool(saved))
        compiling, seconds = time.perf_counter() - began, 0.0
        device: str | None = sharding.described(experiment.mesh)
        state: TrainState = build.make_state(experiment, initial.variables if initial else None)
        if saved:
            state, info = checkpoints.restore(state)
            seconds = info["seconds"]
            for line in extensions.edited(config, info.get("extensions")):
                tell(line)
            if others := provenance.changed(info.get("programs")):
                tell(f"the checkpoint is of other programs ({'; '.join(others)}): steps may differ from here on")
            if int(state.step) == experiment.num_steps:
                device = info.get("device")
            else:
                saved_on, device = info.get("device"), _then(info.get("device"), device)
                if saved_on and device != saved_on:
                    tell(f"other devices ({device}): from here on steps differ by rounding")
            tell(f"going on from step {int(state.step)} of {experiment.num_steps}, {_sha_note(info)}")
        for line in initial.lines(config.data) if initial and not saved else ():
            tell(line)
        start = int(state.step)
        step_fn: TrainStep = programs
        if probe:
            begins = ", and begins anew: its state is not saved" if start else ""
            noun = experiment.dataset.pretrain.noun
            tell(
                "evaluate.online_probe: online_probe_top1 is of a linear classifier trained beside the encoder on the "
                f"views and labels of the training {noun}, no linear_probe_top1 of held-out ones{begins}"
            )
            step_fn = Beside(programs, probe[1])
        with (
            MetricWriter(workdir, start_step=start, enabled=is_first(), warn=tell, loggers=to) as writer,
            traced(step_fn, config.train.trace_steps, workdir / "trace", tell) as called,
        ):
            return loop.run(
                state,
                called,
                build.make_stacked_batches(experiment, start, timetable.counts(start)),
                timetable=timetable,
                checkpoints=checkpoints,
                writer=writer,
                monitor=evaluation.monitor(timetable.evaluate_every),
                info={
                    "config": plain(config),
                    "device": device,
                    "extensions": extensions.versions(config),
                    "programs": provenance.found(),
                },
                seconds_before=seconds + compiling,
                prepare=programs.prepare,
                stop=stop,
                saved=lambda: _tell_skipped(experiment),
                noun=experiment.dataset.pretrain.noun,
            )
    finally:
        checkpoints.close()


def make_evaluation(experiment: Experiment) -> Evaluation:
    """One that a signal ends. Several processes embed together: one of them alone can't leave off."""
    return Evaluation(experiment, stops.check if jax.process_count() == 1 else lambda: None)


def _prepare_data(config: ml_collections.ConfigDict) -> None:
    """Several processes that download into one folder at the same time would take each other's files away."""
    name, root = config.data.name, config.data.root
    if agreement.is_alone() or not config.data.get("download") or name not in (*data.READ_BY_TFDS, "imagenet2012"):
        return
    where = root if root is None or storage.is_url(root) else storage.local_path(root, "config.data.root")
    turns.in_turn("prepare the data", lambda: tfds.prepare(name, where))


def _settle(experiment: Experiment, claimed: Claim | None) -> None:
    """What was chosen is the same for all processes, said, and kept."""
    if not experiment.chosen:
        return
    if not agreement.is_alone():
        agreement.agree("choices", {name: str(value) for name, value in experiment.chosen.items()})
    if claimed:
        claimed.note(experiment.config)
    images, device = experiment.dataset.pretrain, experiment.mesh.devices.flat[0].device_kind
    count = len(images)
    drawn = f" (colours: of {SAMPLE:,} of them)" if count > SAMPLE and experiment.chosen.keys() & {*COLORS} else ""
    tell(f"chosen for {count:,} training {images.noun} on {device}: {choice.described(experiment.chosen)}{drawn}")


def _settings(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """By name; none where one of them has no value, which is what `build.check` says."""
    try:
        return leaves(config)
    except ml_collections.config_dict.RequiredValueError:
        return {}


def tell(text: str) -> None:
    """One process speaks for all."""
    if is_first():
        say(text)


def _describe(experiment: Experiment) -> None:
    dataset, mesh = experiment.dataset, experiment.mesh
    tell(
        f"{dataset.name}: {dataset.description()}; "
        f"{experiment.num_steps} steps of {experiment.config.train.batch_size} on {mesh.size} {jax.default_backend()} "
        f"device{'s' if mesh.size > 1 else ''}{sharding.of_processes()}"
    )
    _tell_skipped(experiment)
    for line in unused.of_schedules(experiment.config, experiment.steps_per_epoch, experiment.num_steps):
        tell(line)
    for line in unused.of_views(experiment.config, of_files=not dataset.pretrain.resident):
        tell(line)
    if not experiment.objective.projects:
        tell(f"measures of embeddings are left out: {UNTRAINED.reason}")
    if not dataset.num_classes:
        tell("no labels: the k-nearest-neighbour monitor and the probes are off")
    elif "knn" not in monitors(experiment.config):
        tell("knn is not in evaluate.monitor: no checkpoint is ranked, the last ones are kept and none as the best")


def _then(before: str | None, now: str | None) -> str:
    """The devices of a run that goes on, in their order; one that it goes on with is not named again.

    >>> _then("1 x cpu, then 8 x gpu", "8 x gpu"), _then("1 x cpu", "8 x gpu"), _then(None, "8 x gpu")
    ('1 x cpu, then 8 x gpu', '1 x cpu, then 8 x gpu', 'not recorded, then 8 x gpu')
    """
    before = before or "not recorded"
    return before if before.rpartition(", then ")[2] == now else f"{before}, then {now}"


def _tell_skipped(experiment: Experiment) -> None:
    """Of files that any process could not use, where there are more than when it was last told; all call it."""
    to_the_first.skipped(experiment.dataset.skipped)
    if news := experiment.dataset.skipped.news():
        tell(news)


def _sha_note(info: dict[str, Any]) -> str:
    seconds = info["seconds"]
    return f"params_sha256 {info['params_sha256'][:12]}, {seconds:.0f} s so far" if math.isfinite(seconds) else ""
