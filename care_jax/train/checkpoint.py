"""Checkpoints: written in the background, proved on restore, the last few and the best kept."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from care_jax.errors import UserError
from care_jax.train.distributed import is_first, raise_if_lost
from care_jax.train.state import TrainState, params_sha256


class CheckpointError(UserError, ValueError):
    """A checkpoint that can't be used, with the folder and the reason."""


class Checkpoints:
    """The checkpoints of one run, in `directory`, one folder a step.

    Each holds the whole TrainState and `info`, a JSON object with the SHA-256 of the parameters and of everything,
    which `restore` compares with what it reads.

    Args:
      directory: created if missing.
      keep_last: newest checkpoints kept.
      best_metric: key of `metrics` whose largest value marks one more checkpoint to keep.
      warn: told of checkpoints that can't be used.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep_last: int = 2,
        best_metric: str = "knn_top1",
        warn: Callable[[str], None] = logging.warning,
    ):
        self.directory = Path(directory).absolute()  # orbax refuses relative paths
        self._best_metric = best_metric
        self._warn = warn
        self._set_damaged_aside()
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(keep_last),
                checkpoint_managers.BestN(
                    get_metric_fn=lambda metrics: metrics[best_metric], n=1, keep_checkpoints_without_metrics=False
                ),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            best_fn=lambda metrics: metrics[best_metric],  # without it, orbax does not write the metrics
            cleanup_tmp_directories=True,
        )
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=options,
            item_handlers={"state": ocp.StandardCheckpointHandler(), "info": ocp.JsonCheckpointHandler()},
        )

    def _set_damaged_aside(self) -> None:
        """Renames checkpoints whose description is damaged: with one of them orbax opens none at all."""
        if is_first():
            for folder in sorted(self.directory.glob("[0-9]*")):
                problem = _description_problem(folder, self._best_metric) if folder.name.isdigit() else None
                if problem:
                    aside = folder.with_name(f"damaged-{folder.name}")
                    self._warn(f"checkpoint {folder} can't be used ({problem}): it is {aside.name} now")
                    shutil.rmtree(aside, ignore_errors=True)
                    folder.rename(aside)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoints are set aside")

    def save(self, state: TrainState, *, info: dict[str, Any], metrics: dict[str, float] | None = None) -> str:
        """Starts to write the state and returns once it has been copied from the device.

        Args:
          state: written under its own step; a step that is already there is left as it is.
          info: JSON values to keep beside the state.
          metrics: of an evaluation at this very step, if there was one; the best of them is kept.

        Returns:
          The SHA-256 of the parameters.

        Raises:
          CheckpointError: it, or the one before it, can't be written.
        """
        step = int(state.step)
        sha256 = params_sha256(state.params)
        if step in self._manager.all_steps():
            return sha256
        ranked = metrics if metrics and self._best_metric in metrics else None
        info = {**info, "params_sha256": sha256}
        info["sha256"] = _sha256(state, info)
        self._check_room(state)
        with self._writing(f"a checkpoint up to step {step}"):
            self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(state), info=ocp.args.JsonSave(info)),
                metrics=ranked,
            )
        logging.info("saving step %d, params_sha256 %s", step, sha256)
        return sha256

    def steps(self) -> list[int]:
        """Steps with a complete checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The step with the best metric, or None if none was measured."""
        ranked: list[tuple[float, int]] = []
        for step in self.steps():
            file = self.directory / str(step) / "metrics" / "metrics"
            if file.exists():
                ranked.append((json.loads(file.read_text())[self._best_metric], step))
        return max(ranked)[1] if ranked else None

    def info(self, step: int) -> dict[str, Any]:
        """What `save` was given as `info` at that step, with `params_sha256`."""
        return self._manager.restore(step, args=ocp.args.Composite(info=ocp.args.JsonRestore()))["info"]

    def restore(self, like: TrainState, step: int | None = None) -> tuple[TrainState, dict[str, Any]]:
        """Reads a checkpoint onto the devices of `like`.

        Args:
          like: a state (arrays or `jax.ShapeDtypeStruct` with shardings) of the shapes to restore.
          step: which; None for the newest that is whole. A damaged newer one is passed over, and said.

        Returns:
          The state and its info.

        Raises:
          CheckpointError: there is none, it doesn't fit `like`, or its parameters are not those that were saved.
        """
        steps = self.steps()
        if not steps:
            raise CheckpointError(f"no checkpoint in {self.directory}; train first, or give the folder of a run")
        if step is not None and step not in steps:
            raise CheckpointError(f"no checkpoint of step {step} in {self.directory}; there are {steps}")
        problem = ""
        for candidate in reversed(steps) if step is None else [step]:
            try:
                return self._restore_one(like, candidate)
            except Exception as error:  # orbax raises many types for damaged files
                raise_if_lost(error)
                # First lines only: orbax lists whole trees.
                problem = f"step {candidate}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
                self._warn(f"checkpoint {self.directory / str(candidate)} can't be used: {problem}")
        raise CheckpointError(f"no usable checkpoint in {self.directory}: {problem}")

    def _restore_one(self, like: TrainState, step: int) -> tuple[TrainState, dict[str, Any]]:
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract), info=ocp.args.JsonRestore()),
        )
        state, info = restored["state"], restored["info"]
        found = params_sha256(state.params)
        if found != info["params_sha256"]:
            raise CheckpointError(f"params_sha256 is {found}, but {info['params_sha256']} was saved")
        # Checkpoints of before version 0.2 have a sum of their parameters alone.
        if "sha256" in info and info.pop("sha256") != _sha256(state, info):
            raise CheckpointError("its SHA-256 is not that of what was saved: bytes have changed")
        logging.info("restored step %d, params_sha256 %s", step, found)
        return state, info

    def _check_room(self, state: TrainState) -> None:
        """Before half of it is written: a disk that is full in the middle is met too, but noisily."""
        # Each array is written by its process, then merged with the others'; some hundred kB describe them.
        needed = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + 2**20
        free = shutil.disk_usage(self.directory).free
        if free < needed:
            error = OSError(f"No space left on device ({free} bytes are free, {needed} needed)")
            raise self._unwritten(f"the checkpoint of step {int(state.step)}", error)

    @contextmanager
    def _writing(self, which: str) -> Iterator[None]:
        """Orbax raises what went wrong in its threads, of many types, at the next call."""
        try:
            yield
        except Exception as error:
            raise_if_lost(error)
            raise self._unwritten(which, error) from error

    def _unwritten(self, which: str, error: Exception) -> CheckpointError:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        # TensorStore puts what the system said behind a list of everything it was doing.
        said = re.search(r": ([^:]+) \[os_error_code", reason)
        return CheckpointError(
            f"{which} can't be written to {self.directory}: {said.group(1) if said else reason}. Those saved before "
            "are kept: make room, then start again to go on from the last"
        )

    def wait(self) -> None:
        """Returns when what is being written is whole.

        Raises:
          CheckpointError: it could not be written.
        """
        with self._writing("the last checkpoint"):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then frees the background threads."""
        try:
            self.wait()
        finally:
            self._manager.close()


def _description_problem(folder: Path, best_metric: str) -> str | None:
    """What is wrong with the JSON files that are read before any checkpoint is; a checkpoint may do without metrics."""
    for file, is_whole in (
        (folder / "_CHECKPOINT_METADATA", lambda value: isinstance(value, dict)),
        (folder / "metrics" / "metrics", lambda value: isinstance(value[best_metric], (int, float))),
    ):
        try:
            if file.exists() and not is_whole(json.loads(file.read_text())):
                return f"{file.name} has been changed"
        except (OSError, KeyError, TypeError, ValueError) as error:
            return f"{file.name}: {error}"
    return None


def _sha256(state: TrainState, info: dict[str, Any]) -> str:
    """Of every array of the state, and of what is saved beside it."""
    text = json.dumps(info, sort_keys=True)
    return hashlib.sha256(f"{params_sha256(state)}\n{text}".encode()).hexdigest()
