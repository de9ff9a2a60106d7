"""The files of one checkpoint: read and proved without a device, and what is wrong with them in a few words.

A checkpoint is a folder with an item `state` (arrays, written by Orbax with TensorStore) and an item `info` (JSON).
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

from care_jax.errors import UserError, wanting_memory
from care_jax.train.state import params_sha256

# The checkpoint with the largest is kept.
BEST_METRIC = "knn_top1"
# What a file that is missing, or is another kind of file, answers. All else says nothing about what the disk holds.
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
# What TensorStore raises, for all that it meets on a disk.
_TENSORSTORE = (ValueError, RuntimeError, LookupError, OSError, MemoryError)


class CheckpointError(UserError, ValueError):
    """A checkpoint that can't be used, with the folder and the reason."""


class DamageError(CheckpointError):
    """A checkpoint whose files are not those that were written: trying again will not help."""


def sha256(state: Any, info: dict[str, Any]) -> str:
    """Of every array of the state, and of what is saved beside it."""
    return hashlib.sha256(f"{params_sha256(state)}\n{as_json(info)}".encode()).hexdigest()


def as_json(value: Any) -> str:
    """One text for equal values."""
    return json.dumps(value, sort_keys=True)


def read_json(file: Path) -> Any:
    """What a JSON file of a checkpoint holds.

    Raises:
      DamageError: it is missing or no JSON.
      CheckpointError: the file system refuses to read it.
    """
    where = f"its file {file.parent.name}/{file.name}"
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:  # bytes that are no text are a ValueError too
        raise DamageError(f"{where} has been changed or is cut short") from error
    except OSError as error:
        if error.errno in _MISSING:
            raise DamageError(f"{where} is missing") from error
        raise CheckpointError(f"{where} can't be read: {error.strerror}") from error


def read_info(folder: Path) -> dict[str, Any]:
    """What was saved beside the arrays.

    Raises:
      DamageError, CheckpointError: as `read_json`.
    """
    info = read_json(folder / "info" / "metadata")
    if not isinstance(info, dict) or not isinstance(info.get("params_sha256"), str):
        raise DamageError("its file info/metadata has been changed")
    return info


def read(folder: Path, like: Any, step: int) -> tuple[Any, dict[str, Any]]:
    """Reads a checkpoint and compares every byte with the sums that were taken when it was saved.

    Args:
      folder: of the checkpoint.
      like: a pytree of arrays, or of anything with shapes and types, as the state has them.
      step: of the state.

    Returns:
      The state, of NumPy arrays, and its info.

    Raises:
      DamageError: something is missing or has changed.
      CheckpointError: it holds other arrays than `like`, or the file system refuses to read it.
    """
    info = read_info(folder)
    state = _read_arrays(folder / "state", like)
    found = params_sha256(state.params)
    if found != info["params_sha256"]:
        raise DamageError(f"params_sha256 is {found[:12]}, but {info['params_sha256'][:12]} was saved")
    # The first checkpoints have a sum of their parameters alone.
    if "sha256" in info and info.pop("sha256") != sha256(state, info):
        raise DamageError("its SHA-256 is not that of what was saved: bytes have changed")
    if int(state.step) != step:
        raise DamageError(f"it is that of step {state.step}, under another name")
    return state, info


def _read_arrays(folder: Path, like: Any) -> Any:
    if not folder.is_dir():
        raise DamageError("its folder state is missing")
    leaves = jax.tree_util.tree_leaves_with_path(like)
    wanted = {".".join(ocp.tree.str_keypath(path)): leaf for path, leaf in leaves}
    base = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder}/"}}
    # A context of its own: nothing comes from what an earlier reading, or the writing, left in memory.
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": 100_000_000}})
    with _reading("its list of arrays"):
        keys = tensorstore.KvStore.open(base, context=context).result().list().result()
    stored = {key.decode().removesuffix("/.zarray") for key in keys if key.endswith(b"/.zarray")}
    if not stored:
        raise DamageError("its arrays are missing")
    _compare("arrays", sorted(stored), sorted(wanted))
    opened = [
        tensorstore.open(
            {"driver": "zarr", "kvstore": base | {"path": f"{name}/"}, "fill_missing_data_reads": False},
            open=True,
            read=True,
            context=context,
        )
        for name in wanted
    ]
    reads = []
    for store, (name, leaf) in zip(opened, wanted.items(), strict=True):
        with _reading(f"the array {name}"):
            array = store.result()
        _compare(f"{name} as", [f"{array.dtype.name}{list(array.shape)}"], [f"{leaf.dtype}{list(leaf.shape)}"])
        reads.append(array.read())
    arrays = []
    for read_, name in zip(reads, wanted, strict=True):
        with _reading(f"the array {name}"):
            arrays.append(np.asarray(read_.result()))
    return jax.tree.unflatten(jax.tree.structure(like), arrays)


def _compare(what: str, stored: list[str], wanted: list[str]) -> None:
    if stored == wanted:
        return
    more = [name for name in stored if name not in wanted]
    less = [name for name in wanted if name not in stored]
    parts = [f"{word} {_few(names)}" for word, names in (("holds", more), ("lacks", less)) if names]
    raise CheckpointError(f"it was written for another model or by another version: of {what} it {', '.join(parts)}")


def _few(names: list[str]) -> str:
    return f"{', '.join(names[:2])}{f' and {len(names) - 2} more' if len(names) > 2 else ''}"


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except _TENSORSTORE as error:
        raise _unreadable(what, error) from error


def _unreadable(what: str, error: Exception) -> CheckpointError:
    """TensorStore says in one long line what it was doing, what the system answered, and every setting."""
    text = str(error)
    system = re.search(r"os_error_code='?(\d+)", text)
    if system and int(system.group(1)) not in _MISSING:
        return CheckpointError(f"{what} can't be read: {os.strerror(int(system.group(1)))}")
    if wanting_memory(error) is not None:
        return CheckpointError(f"{what} can't be read: memory is short")
    return DamageError(f"{what} is missing, changed or cut short")


def refusal(error: Exception) -> str:
    """What a file system answered to a write, in the words of the library that met it, and what to do."""
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    if isinstance(error, OSError) and error.strerror:
        reason = f"{error.strerror}{f' ({error.filename})' if error.filename else ''}"
    # TensorStore puts what the system said behind a list of everything it was doing.
    system = re.search(r": ([^:]+) \[os_error_code", reason)
    said = system.group(1) if system else reason
    remedy = "make room" if re.search("space|quota|too large", said) else "see to the disk"
    return f"{said}. Those saved before are kept: {remedy}"


def tidy(directory: Path, best_metric: str, warn: Callable[[str], None]) -> None:
    """Removes unfinished checkpoints, and sets damaged JSON files aside that a finished one can do without.

    With one of these Orbax opens no checkpoint at all.

    Args:
      directory: of the checkpoints of a run.
      best_metric: what the metrics of a checkpoint must have.
      warn: told of each.
    """
    for folder in directory.glob("[0-9]*.orbax-checkpoint-tmp*"):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in sorted(directory.glob("[0-9]*")):
        for file, loss in (
            (folder / "_CHECKPOINT_METADATA", "nothing is lost by it"),
            (folder / "metrics" / "metrics", "the checkpoint is whole, but it is not ranked any more"),
        ):
            if folder.name.isdigit() and file.exists() and not _is_whole(file, best_metric):
                aside = file.with_name(f"damaged-{file.name}")
                file.replace(aside)
                warn(f"{file} was damaged and is {aside.name} now: {loss}")


def _is_whole(file: Path, best_metric: str) -> bool:
    try:
        content = read_json(file)
    except DamageError:
        return False
    if file.name != "metrics":
        return isinstance(content, dict)
    return isinstance(content, dict) and isinstance(content.get(best_metric), (int, float))


def best(directory: Path, steps: Iterable[int], metric: str) -> int | None:
    """The step, of those given, whose checkpoint has the largest value of a metric; None where none has one."""
    ranked: list[tuple[float, int]] = []
    for step in steps:
        file = directory / str(step) / "metrics" / "metrics"
        if file.exists():
            ranked.append((read_json(file)[metric], step))
    return max(ranked)[1] if ranked else None


def place(array: np.ndarray, like: Any) -> jax.Array:
    """An array in the memory of the devices of `like`."""
    return jax.make_array_from_callback(array.shape, like.sharding, lambda index: array[index])
