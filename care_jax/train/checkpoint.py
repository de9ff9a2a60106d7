"""Checkpoints: written in the background, read back before an older one goes, the last few and the best kept."""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers

from care_jax import storage
from care_jax.devices import together
from care_jax.devices.distributed import is_first, raise_if_lost
from care_jax.train import checkpoint_files
from care_jax.train.checkpoint_files import CheckpointError, DamageError
from care_jax.train.library_warnings import LibraryWarnings
from care_jax.train.plain_path import PlainPath
from care_jax.train.state import TrainState, params_sha256


class Checkpoints:
    """The checkpoints of one run, in `directory`, one folder a step.

    Each holds the whole TrainState and `info`, a JSON object with the SHA-256 of the parameters and of everything,
    which `restore` compares with what it reads.

    Args:
      directory: created if missing.
      keep_last: newest checkpoints kept.
      best_metric: key of `metrics` whose largest value marks one more checkpoint to keep.
      warn: told of checkpoints that can't be used, and of what the libraries warn of.
      check: called before each save; raises where the folder is no longer the run's.

    Raises:
      CheckpointError: checkpoints can't be written to a folder of this name; or the processes see different ones.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep_last: int = 2,
        best_metric: str = checkpoint_files.BEST_METRIC,
        warn: Callable[[str], None] = logging.warning,
        check: Callable[[], None] = lambda: None,
    ):
        self.directory = Path(directory).absolute()  # orbax refuses relative paths
        self._best_metric = best_metric
        self._warn = warn
        self._check = check
        self._warnings = LibraryWarnings()
        if is_first():
            checkpoint_files.tidy(self.directory, best_metric, warn)
        together.meet("the folder of checkpoints is tidy")
        self._plain = PlainPath(self.directory)
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
            async_options=ocp.AsyncOptions(
                # By the first process, before the folder gets its name, and so before an older one is removed.
                post_finalization_callback=self._read_back,
                barrier_sync_fn=together.make_barrier(),
                create_directories_asynchronously=False,  # a save that failed would go on in threads
            ),
        )
        with self._hearing(start=True):
            self._manager = ocp.CheckpointManager(
                self._plain.path,
                options=options,
                item_handlers={"state": ocp.StandardCheckpointHandler(), "info": ocp.JsonCheckpointHandler()},
            )
        self._check_same_steps()

    def _check_same_steps(self) -> None:
        """Otherwise some processes would go on from one step, the others from another."""
        steps = self.steps()
        mine = [len(steps), max(steps, default=0)]
        firsts = together.of_the_first(mine)
        if mine != firsts:
            raise CheckpointError(
                f"process {jax.process_index()} finds {mine[0]} checkpoints up to step {mine[1]} in {self.directory}, "
                f"the first process {firsts[0]} up to step {firsts[1]}: give all processes one folder that they share"
            )

    def save(self, state: TrainState, *, info: dict[str, Any], metrics: dict[str, float] | None = None) -> str:
        """Starts to write the state and returns once it has been copied from the device.

        Args:
          state: written under its own step; a step that is already there is left as it is.
          info: JSON values to keep beside the state.
          metrics: of an evaluation at this very step, if there was one; the best of them is kept.

        Returns:
          The SHA-256 of the parameters.

        Raises:
          CheckpointError: it, or the one before it, can't be written, or can't be read back.
        """
        self._check()
        step = int(state.step)
        sha256 = params_sha256(state.params)
        if step in self._manager.all_steps():
            return sha256
        ranked = metrics if metrics and self._best_metric in metrics else None
        info = {**info, "params_sha256": sha256}
        info["sha256"] = checkpoint_files.sha256(state, info)
        with self._writing(f"a checkpoint up to step {step}"):
            self._finish()
            self._check_room(state)
            self._warnings.start()
            like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
            self._saving = step, like, info, ranked
            self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(_one_copy(state)), info=ocp.args.JsonSave(info)),
                metrics=ranked,
            )
        return sha256

    def steps(self) -> list[int]:
        """Steps with a complete checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The step with the best metric, or None if none was measured."""
        return checkpoint_files.best(self.directory, self.steps(), self._best_metric)

    def info(self, step: int) -> dict[str, Any]:
        """What `save` was given as `info` at that step, with `params_sha256`."""
        return checkpoint_files.read_info(self.directory / str(step))

    def restore(self, like: TrainState, step: int | None = None) -> tuple[TrainState, dict[str, Any]]:
        """Reads a checkpoint onto the devices of `like`.

        Args:
          like: a state (arrays or `jax.ShapeDtypeStruct` with shardings) of the shapes to restore.
          step: which; None for the newest that is whole. Damaged newer ones are passed over and renamed, and said.

        Returns:
          The state and its info.

        Raises:
          CheckpointError: there is none, it doesn't fit `like`, it can't be read now, or it is not what was saved.
        """
        steps = self.steps()
        if not steps:
            raise CheckpointError(f"no checkpoint in {self.directory}; train first, or give the folder of a run")
        if step is not None and step not in steps:
            raise CheckpointError(f"no checkpoint of step {step} in {self.directory}; there are {steps}")
        damaged: dict[int, str] = {}
        for candidate in reversed(steps) if step is None else [step]:
            read, problem = self._read(like, candidate)
            if read is not None:
                self._set_aside(damaged)
                state, info = read
                logging.info("restored step %d, params_sha256 %s", candidate, info["params_sha256"])
                return jax.tree.map(checkpoint_files.place, state, like), info
            damaged[candidate] = problem
        for passed_over, problem in damaged.items():
            self._warn(f"checkpoint {self.directory / str(passed_over)} can't be used: {problem}")
        raise CheckpointError(f"no usable checkpoint in {self.directory}: step {candidate}: {problem}")

    def _read(self, like: TrainState, step: int) -> tuple[tuple[Any, dict[str, Any]] | None, str]:
        """A checkpoint, or what is wrong with it; all processes have it, or none."""
        read, problem, error = None, "another process found it damaged", None
        try:
            read = checkpoint_files.read(self._plain.path / str(step), like, step)
        except DamageError as damage:
            problem = str(damage)
        except Exception as other:  # the others are waiting to hear of it
            error = other
        worst = together.lowest(0 if error else 1 if read is None else 2)
        if worst == 0:
            if error is not None and not isinstance(error, CheckpointError):
                raise error
            why = error or "another process can't read it"
            raise CheckpointError(f"checkpoint {self.directory / str(step)} can't be used: {why}") from error
        return (read if worst == 2 else None), problem

    def _set_aside(self, damaged: dict[int, str]) -> None:
        """Renames checkpoints, so that their steps can be saved again."""
        for step, problem in damaged.items():
            folder = self.directory / str(step)
            aside = folder.with_name(f"damaged-{step}")
            self._warn(f"checkpoint {folder} can't be used: {problem}; it is {aside.name} now")
            if is_first():
                shutil.rmtree(aside, ignore_errors=True)
                folder.replace(aside)
        if damaged:
            together.meet("damaged checkpoints are set aside")
            self._manager.reload()

    def _read_back(self) -> None:
        """Proves the checkpoint that has been written, in the background, before it takes the place of another one.

        Raises:
          CheckpointError: it is not what was saved; it never gets its name.
        """
        step, like, info, ranked = self._saving
        folder = next(iter(self._plain.path.glob(f"{step}.*")), self._plain.path / str(step))
        storage.flush_tree(folder)
        try:
            if checkpoint_files.as_json(checkpoint_files.read_info(folder)) != checkpoint_files.as_json(info):
                raise DamageError("its file info/metadata is not what was written")
            if ranked and checkpoint_files.read_json(folder / "metrics" / "metrics") != ranked:
                raise DamageError("its file metrics/metrics is not what was written")
            checkpoint_files.read(folder, like, step)
        except CheckpointError as error:
            raise CheckpointError(
                f"the checkpoint of step {step} was written to {self.directory}, but read back it is not what was "
                f"saved: {error}. It is not kept, those saved before are: see to the disk, then start again to go on "
                "from the last"
            ) from error

    def _check_room(self, state: TrainState) -> None:
        """Before half of it is written: a disk that is full in the middle is met too, but noisily."""
        # Each array is written by its process, then merged with the others'; some hundred kB describe them.
        needed = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + 2**20
        free = shutil.disk_usage(self.directory).free
        if free < needed:
            raise OSError(errno.ENOSPC, f"No space left on device ({free} bytes are free, {needed} needed)")

    @contextmanager
    def _writing(self, which: str) -> Iterator[None]:
        """Orbax raises what went wrong in its threads, of many types, at the next call."""
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:
            raise_if_lost(error)  # the disk is not to blame for a process that is gone
            reason = checkpoint_files.refusal(error).replace(str(self._plain.path), str(self.directory))
            raise CheckpointError(
                f"{which} can't be written to {self.directory}: {reason}, then start again to go on from the last"
            ) from error

    def wait(self) -> None:
        """Returns when what is being written is whole, and has been read back.

        Raises:
          CheckpointError: it could not be written.
        """
        with self._writing("the last checkpoint"):
            self._finish()
            if is_first():
                with suppress(FileNotFoundError):  # who checks the workdir says that it is gone
                    storage.flush_folder(self.directory)

    def _finish(self) -> None:
        with self._hearing():
            self._manager.wait_until_finished()

    @contextmanager
    def _hearing(self, *, start: bool = False) -> Iterator[None]:
        """At the end of the block, says what the libraries warned of; where it fails, that is raised."""
        if start:
            self._warnings.start()
        try:
            yield
        finally:
            heard = self._warnings.stop()
        for line in heard:
            self._warn(
                f"a library warned of {self.directory}: {line}".replace(str(self._plain.path), str(self.directory))
            )

    def close(self) -> None:
        """Waits, then frees the background threads."""
        try:
            self.wait()
        finally:
            self._plain.remove()
            with self._writing("the last checkpoint"):
                self._manager.close()


def _one_copy(state: Any) -> Any:
    """Of arrays that every device has whole, one device's: of all, Orbax compiles a program for each one's part."""

    def one(leaf: Any) -> Any:
        alone = isinstance(leaf, jax.Array) and leaf.is_fully_addressable and leaf.is_fully_replicated
        return leaf.addressable_data(0) if alone else leaf

    return jax.tree.map(one, state)
