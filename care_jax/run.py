"""One run from start to end: train or go on, evaluate, and leave summary.json and report.html in the workdir."""

import json
import math
import os
from pathlib import Path
from typing import Any

import chex
import jax
import ml_collections

from care_jax import build
from care_jax.build import Experiment
from care_jax.command_line import say
from care_jax.config import ConfigError, differences, read_config
from care_jax.evaluate import results
from care_jax.evaluate.evaluation import make_embedder, make_monitor
from care_jax.train import loop, sharding
from care_jax.train.checkpoint import Checkpoints
from care_jax.train.metric_writer import MetricWriter
from care_jax.train.state import TrainState
from care_jax.train.step import repeat

# Settings that may change when a run goes on: they move neither its parameters nor what its numbers mean.
_FREE = ("config.train.log_every", "config.train.keep_last", "config.augment.num_threads", "config.data.root")


def run(config: ml_collections.ConfigDict, workdir: Path) -> bool:
    """Trains what is left to train, evaluates, reports.

    Args:
      config: as configs/base.py builds it.
      workdir: folder of the run; made if missing. Where it holds a checkpoint of the same configuration, training goes
        on from there.

    Returns:
      False where SIGTERM stopped training (it is saved).

    Raises:
      ConfigError, DataError, CheckpointError, NonFiniteLossError: one line for the user.
    """
    build.check(config, sharding.make_mesh())
    _claim(workdir, config)
    experiment = build.build(config)
    outcome = train(experiment, workdir)
    _report_skipped(experiment)
    if outcome.finished:
        summary = results.write(
            experiment, workdir, outcome.state.variables, step=experiment.num_steps, seconds=outcome.seconds
        )
        shown = ("knn_top1", "linear_probe_top1", "wahba_mean", "relative_equivariance_median", "images_per_second")
        say(", ".join(f"{name} {summary[name]:.4g}" for name in shown if summary[name] is not None))
        say(f"{workdir / 'summary.json'} has all numbers, {workdir / 'report.html'} the pictures")
    return outcome.finished


def train(experiment: Experiment, workdir: Path) -> loop.Outcome:
    """Trains to the last step from the newest checkpoint in `workdir`, or from the start."""
    config = experiment.config
    embedder = make_embedder(experiment)
    monitor = make_monitor(experiment, embedder)
    checkpoints = Checkpoints(workdir / "checkpoints", keep_last=config.train.keep_last, warn=say)
    try:
        state: TrainState = build.make_state(experiment)
        seconds = 0.0
        if checkpoints.steps():
            state, info = checkpoints.restore(state)
            seconds = info["seconds"]
            say(f"going on from step {int(state.step)} of {experiment.num_steps}, {_sha_note(info)}")
        start = int(state.step)
        _describe(experiment)
        schedule = loop.Schedule(
            num_steps=experiment.num_steps,
            log_every=config.train.log_every,
            evaluate_every=_steps(experiment, config.train.evaluate_every_epochs),
            checkpoint_every=_steps(experiment, config.train.checkpoint_every_epochs),
            batch_size=config.train.batch_size,
            steps_per_call=config.train.steps_per_call,
        )
        # One more trace would mean one more compilation: a shape or type that changes from step to step. chex counts by
        # the function's name, for the whole process; an earlier run's count is not this one's.
        chex.clear_trace_counter()
        traces = 1 if schedule.steps_per_call == 1 else 2  # single steps lead up to a save
        step_fn = jax.jit(chex.assert_max_traces(repeat(build.make_step(experiment)), n=traces), donate_argnums=0)
        with MetricWriter(workdir, start_step=start) as writer:
            return loop.run(
                state,
                step_fn,
                build.make_stacked_batches(experiment, start, schedule.counts(start)),
                schedule=schedule,
                checkpoints=checkpoints,
                writer=writer,
                evaluators={"knn": monitor},
                info={"config": _plain(config)},
                seconds_before=seconds,
            )
    finally:
        checkpoints.close()


def _claim(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Makes the workdir and notes the configuration; refuses to go on with another one."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        path = workdir / "config.json"
        if path.exists():
            changed = [
                line
                for line in differences(read_config(workdir).to_dict(), config.to_dict())
                if not line.startswith(_FREE)
            ]
            if changed:
                raise ConfigError(
                    f"{workdir} holds a run with other settings ({'; '.join(changed)}): "
                    "use its settings to go on with it, or another --workdir"
                )
        draft = path.with_suffix(".json.new")
        draft.write_text(json.dumps(_plain(config), indent=2) + "\n")
        os.replace(draft, path)
    except OSError as error:
        raise ConfigError(f"--workdir={workdir} can't be written: {error}") from error


def _plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
    return json.loads(json.dumps(config.to_dict()))


def _steps(experiment: Experiment, epochs: float) -> int:
    return max(round(epochs * experiment.steps_per_epoch), 1) if epochs else 0


def _describe(experiment: Experiment) -> None:
    dataset, mesh = experiment.dataset, experiment.mesh
    say(
        f"{dataset.name}: {len(dataset.pretrain)} training and {len(dataset.test)} test images; "
        f"{experiment.num_steps} steps of {experiment.config.train.batch_size} on {mesh.size} {jax.default_backend()} "
        f"device{'s' if mesh.size > 1 else ''}"
    )
    if not dataset.num_classes:
        say("no labels: the k-nearest-neighbour monitor and the probes are off")


def _report_skipped(experiment: Experiment) -> None:
    summary = experiment.dataset.skipped.summary()
    if summary:
        say(summary)


def _sha_note(info: dict[str, Any]) -> str:
    seconds = info["seconds"]
    return f"params_sha256 {info['params_sha256'][:12]}, {seconds:.0f} s so far" if math.isfinite(seconds) else ""
