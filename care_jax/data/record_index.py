"""What reading all records of a split has shown, kept for the next start: beside the data, or in the user's cache."""

import contextlib
import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]

# What a file answers that is not there, or is another kind of file.
_UNUSABLE = (OSError, EOFError, ValueError, LookupError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error)


class Index:
    """Arrays of one split, in one file. Nothing in it is ever executed: arrays of objects are not read.

    Args:
      path: of that file, beside the data.
      files: of the split, in order, where they are known. Where the folder of `path` can't be written to, the file is
        in the user's cache folder, named after that folder and the names and sizes of these.
      notes: gets a line, once, where that is so, or the arrays can be kept nowhere.

    Attributes:
      path: of the file that the arrays are in, once they were read.
    """

    def __init__(self, path: Path, files: Sequence[str], notes: list[str]):
        self.path = path
        self.files = tuple(files)
        self._notes = notes

    def read(self, names: Sequence[str], build: Callable[[], Arrays]) -> Arrays:
        """The arrays `names`; built, and kept where that is possible, if they are nowhere.

        Args:
          names: of the arrays.
          build: makes them.
        """
        other = self._in_the_cache()
        for path in filter(None, (self.path, other)):
            try:
                with np.load(path, allow_pickle=False) as stored:
                    arrays = {name: stored[name] for name in names}
            except _UNUSABLE:
                continue
            self._is_at(path)
            return arrays
        arrays = build()
        reasons = []
        for path in filter(None, (self.path, other)):
            if not (reason := _write(path, arrays, make_folder=path == other)):
                self._is_at(path)
                return arrays
            reasons.append(reason)
        self._note(
            f"labels can't be kept ({'; '.join(reasons)}), so each start reads all records for them: run it once as a "
            "user who may write there, or let XDG_CACHE_HOME name a folder that can be written to"
        )
        return arrays

    def _is_at(self, path: Path) -> None:
        if path != self.path:
            self._note(f"labels are kept in {path.parent}, as {self.path.parent} could not be written to")
            self.path = path

    def _note(self, text: str) -> None:
        if text not in self._notes:  # another split's
            self._notes.append(text)

    def _in_the_cache(self) -> Path | None:
        """Of this folder and these files alone; None where they are not known, or there is no home folder."""
        if not self.files:
            return None
        digest = hashlib.sha256(os.fsencode(os.path.abspath(self.path)))
        for file in self.files:
            digest.update(os.fsencode(f"\0{os.path.basename(file)}\0{os.path.getsize(file)}"))
        try:
            return cache_folder() / f"{self.path.stem}-{digest.hexdigest()[:16]}.npz"
        except RuntimeError:
            return None


def cache_folder() -> Path:
    """In `$XDG_CACHE_HOME`, or `~/.cache`, as compiled programs are.

    Raises:
      RuntimeError: there is no home folder.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    return base / "care_jax" / "labels"


def _write(path: Path, arrays: Arrays, make_folder: bool) -> str:
    """Whole or not at all, also when several processes write it; returns why not, empty where it is done."""
    partial = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.npz")
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(partial, **arrays)  # type: ignore[arg-type]  # its stub takes the names for options
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        return f"{path.parent}: {error.strerror or error}"
    return ""
