"""What a data set consisted of when a run began: kept in its workdir, and compared when the run goes on.

The batch of a step is a function of (seed, step) only while index i means the same image. One file more or less moves
all that come after it, so a set that changed is refused, with the difference, rather than trained on.
"""

import gzip
import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from care_jax import storage
from care_jax.data.errors import DataError
from care_jax.data.examples import CLASS, DataSet, Examples

_VERSION = 1
_PARTS = ("pretrain", "train", "test")
_FILES_A_LINE = 1024
_NAMES_SHOWN = 3

Files = Mapping[str, tuple[Sequence[str], Sequence[int]]]  # listing -> names and sizes, bytes


def check_unchanged(dataset: DataSet, path: str | os.PathLike[str]) -> None:
    """Writes down what a data set consists of, or compares it with what was written down before.

    Of files: their paths below the data set's folder, their sizes and their order (the folder itself may move). Of
    arrays in memory that come from no listed files: number, shape and SHA-256 of the pixels. Of labels: their SHA-256.

    Args:
      dataset: as it was loaded.
      path: of the record, gzipped JSON lines; in the workdir. Written where there is none, whole or not at all.

    Raises:
      DataError: the data set is another than when `path` was written, with the difference; or `path` can't be read
        or written.
    """
    path = Path(path)
    parts = {part: _described(getattr(dataset, part), not dataset.files) for part in _PARTS}
    files = {name: (listing.names, listing.sizes.tolist()) for name, listing in dataset.files.items()}
    if not path.exists():
        _write(path, parts, files)
        return
    parts_before, files_before = _read(path)
    # Files first: what changed among them explains the rest.
    difference = _files_difference(files_before, files) or _parts_difference(parts_before, parts)
    if difference:
        roots = sorted({listing.root for listing in dataset.files.values()})
        where = f"{dataset.name}{' in ' + roots[0] if roots else ''}"
        raise DataError(
            f"{where} changed since {path} was written: {difference}; "
            "put it back as it was, or begin anew with another workdir"
        )


def files_changed(dataset: DataSet, path: str | os.PathLike[str]) -> str:
    """How the files of a data set differ from what `check_unchanged` wrote down, in words.

    Empty where they are the same, where there is no such record, and of data without files.

    Args:
      dataset, path: as of `check_unchanged`; nothing is written.

    Raises:
      DataError: `path` can't be read.
    """
    if not dataset.files or not Path(path).exists():
        return ""
    files = {name: (listing.names, listing.sizes.tolist()) for name, listing in dataset.files.items()}
    return _files_difference(_read(Path(path))[1], files)


def _described(examples: Examples, with_pixels: bool) -> dict[str, Any]:
    described: dict[str, Any] = {
        "examples": len(examples),
        "labels": {name: _sha256(values) for name, values in sorted(examples.labels.items())},
    }
    if with_pixels and examples.resident:
        described |= {"shape": list(examples.pixels.shape[1:]), "pixels": _sha256(examples.pixels)}
    return described


def _sha256(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data).hexdigest()


def _write(path: Path, parts: Mapping[str, Any], files: Files) -> None:
    header = {"version": _VERSION, "parts": parts, "files": {name: len(names) for name, (names, _) in files.items()}}
    packed = io.BytesIO()
    # Level 1: the folders that files share compress well, and a million names should not take a minute.
    with gzip.open(packed, "wt", compresslevel=1, encoding="ascii") as lines:
        lines.write(json.dumps(header) + "\n")
        for name, (names, sizes) in files.items():
            for start in range(0, len(names), _FILES_A_LINE):
                rows = slice(start, start + _FILES_A_LINE)
                lines.write(json.dumps([name, list(names[rows]), list(sizes[rows])]) + "\n")
    try:
        storage.replace_file(path, packed.getvalue())
    except OSError as error:
        raise DataError(f"{path}, the record of the run's data, can't be written: {error.strerror}") from error


def _read(path: Path) -> tuple[dict[str, Any], Files]:
    try:
        with gzip.open(path, "rt", encoding="ascii") as lines:
            header = json.loads(next(lines))
            if header["version"] != _VERSION:
                raise ValueError(f"version {header['version']}")
            files: dict[str, tuple[list[str], list[int]]] = {name: ([], []) for name in header["files"]}
            for line in lines:
                name, names, sizes = json.loads(line)
                files[name][0].extend(names)
                files[name][1].extend(sizes)
        if any(len(files[name][i]) != count for name, count in header["files"].items() for i in (0, 1)):
            raise ValueError("files are missing")
        described = [header["parts"][part] for part in _PARTS]
        if not all(isinstance(part["examples"], int) and isinstance(part["labels"], dict) for part in described):
            raise ValueError("no counts or no labels")
        for part in described:  # records of before call the classes "label"
            part["labels"] = {CLASS if name == "label" else name: digest for name, digest in part["labels"].items()}
        return header["parts"], files
    except (OSError, EOFError, StopIteration, RecursionError, zlib.error, ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"{path}, the record of the run's data, can't be read or is damaged ({type(error).__name__}): put it "
            "back from a copy, or delete it if you are sure that the data is that which the run began with"
        ) from error


def _files_difference(before: Files, now: Files) -> str:
    """In words; empty if there is none."""
    if {name: (list(names), list(sizes)) for name, (names, sizes) in now.items()} == dict(before):
        return ""
    old, new = _sizes_by_name(before), _sizes_by_name(now)
    told = [
        _some([name for name in new if name not in old], "added"),
        _some([name for name in old if name not in new], "removed"),
        _some([name for name in new if old.get(name, new[name]) != new[name]], "of another size"),
    ]
    return ", ".join(filter(None, told)) or "the same files, in another order or other parts"


def _sizes_by_name(files: Files) -> dict[str, int]:
    return {name: size for names, sizes in files.values() for name, size in zip(names, sizes, strict=True)}


def _some(names: Sequence[str], what: str) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else ""
    files = "file" if len(names) == 1 else "files"
    return f"{len(names):,} {files} {what} ({', '.join(names[:_NAMES_SHOWN])}{more})"


def _parts_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first that matters, in words; empty if there is none."""
    for part in _PARTS:
        old, new = before[part], now[part]
        if old["examples"] != new["examples"]:
            return f"its {part} part has {new['examples']:,} examples, not {old['examples']:,}"
        for what, key in (("shape", "shape"), ("pixels", "pixels"), ("labels", "labels")):
            if old.get(key) != new.get(key):
                which = _which(old.get(key), new.get(key))
                return f"the {what} of its {part} part {'differ' if what != 'shape' else 'differs'}{which}"
    return ""


def _which(old: Any, new: Any) -> str:
    """What of two records differs, where that tells people something: shapes and names do, digests don't."""
    if isinstance(old, list) and isinstance(new, list):
        return f" ({new}, not {old})"
    if isinstance(old, dict) and isinstance(new, dict):
        names: Iterable[str] = (name for name in {**old, **new} if old.get(name) != new.get(name))
        return f" ({', '.join(sorted(names))})"
    return ""
