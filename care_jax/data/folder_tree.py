"""What lies below a folder: images in order, each real folder once whatever links lead to it; the rest is counted."""

import collections
import errno
import os
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from care_jax.data.decode import EXTENSIONS
from care_jax.data.errors import DataError

# What cameras, desktops and servers leave behind, in lower case: neither classes nor files to tell of.
_LITTER = {
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
    "@eadir",
    "__macosx",
    "__pycache__",
    "#recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
}
_SPLIT = re.compile(
    r"(?:(train|training)|(test|testing)|(val|valid|validation|eval|evaluation))"
    r"(?:[-_ ]?(?:set|split|data|images))?[-_ ]?\d*"
)


def split_kind(name: str) -> str:
    """ "train", "test" or "validation" where a folder is named like such a split, in any case; else empty.

    >>> split_kind("Training_Set"), split_kind("val2017"), split_kind("trains")
    ('train', 'validation', '')
    """
    match = _SPLIT.fullmatch(name.casefold())
    return ("train", "test", "validation")[(match.lastindex or 1) - 1] if match else ""


class Contents(NamedTuple):
    """Of one folder, or of all that is below one.

    Attributes:
      images: paths below the root, by extension; in order.
      ignored: extension -> number of other files.
      folders: names of its subfolders, sorted; empty where they were looked into.
    """

    images: list[str]
    ignored: collections.Counter[str]
    folders: list[str]


class Tree:
    """The folders below a root. Links are followed, but never to a folder that has been looked into already.

    Attributes:
      root: as given.
      extensions: of the files that are looked for, in lower case.
      splits: whether a folder below may hold a training and a test set.
      repeated: paths below the root of links that led to such a folder.
    """

    def __init__(self, root: str, extensions: tuple[str, ...] = EXTENSIONS, *, splits: bool = False):
        self.root = root
        self.extensions = extensions
        self.splits = splits
        self.repeated: list[str] = []
        self._containers: dict[tuple[int, int], str] = {}
        self._owners: dict[tuple[int, int], dict[str, str]] = {}

    def top(self, folder: str) -> Contents:
        """What lies in a folder of classes, not in depth; links to it lead nowhere from now on.

        Args:
          folder: path below the root, "" for the root itself.

        Raises:
          DataError: it is a folder that was asked for by another name.
          OSError: it can't be looked into.
        """
        first = self._containers.setdefault(self._identity(folder), folder)
        if first != folder:
            raise DataError(f"{self._path(folder)} and {self._path(first)} are the same folder: which one is meant?")
        return self._listed(folder, in_depth=False)

    def below(self, folder: str) -> Contents:
        """All images below a folder, those of each folder before those of its subfolders, sorted by name.

        Args:
          folder: path below the root.

        Raises:
          DataError: it holds a folder of images that another folder, asked for before, holds too; or what should have
            been the root.
          OSError: a folder can't be looked into.
        """
        below = Contents([], collections.Counter(), [])
        pending = [folder]
        while pending:
            here = pending.pop()
            identity = self._identity(here)
            owners = self._owners.setdefault(identity, {})
            if identity in self._containers or folder in owners:
                self.repeated.append(here)
                continue
            found = self._listed(here, in_depth=True)
            if owners and found.images:
                raise in_two_places(self.root, next(iter(owners.values())), here, "folder")
            owners[folder] = here
            if not self.splits:
                self._check_no_root(here, found.folders)
            below.images.extend(found.images)
            below.ignored.update(found.ignored)
            pending.extend(os.path.join(here, name) for name in reversed(found.folders))
        return below

    def _listed(self, folder: str, *, in_depth: bool) -> Contents:
        images, folders = [], []
        ignored: collections.Counter[str] = collections.Counter()
        with os.scandir(self._path(folder)) as entries:
            for entry in entries:
                name = entry.name
                is_image = name.lower().endswith(self.extensions)
                if name.startswith(".") or name.lower() in _LITTER:
                    # Of what is hidden, an image may be missed; "._" is what macOS keeps beside each file.
                    if is_image and not name.startswith("._"):
                        ignored["hidden"] += 1
                elif _leads_to(entry, os.DirEntry.is_dir):
                    folders.append(name)
                # A link to nowhere counts as an unusable image, except at the top: runs begun before know it so.
                elif is_image and (in_depth or _leads_to(entry, os.DirEntry.is_file)):
                    images.append(os.path.join(folder, name))
                elif entry.is_symlink() and not _leads_to(entry, os.DirEntry.is_file):
                    ignored["links to nowhere"] += 1
                else:
                    ignored[extension(name)] += 1
        return Contents(sorted(images), ignored, sorted(folders))

    def _check_no_root(self, folder: str, names: Iterable[str]) -> None:
        """A training and a test set inside what would be one class: the root was guessed wrong."""
        kinds = {split_kind(name): name for name in names}
        held_out = kinds.get("test") or kinds.get("validation")
        if "train" in kinds and held_out:
            raise DataError(
                f"{self._path(folder)} holds {kinds['train']} and {held_out}, which would be mixed as images of one "
                "class: give that folder as data.root, put the folders of the classes into those of the split, or "
                "rename them"
            )

    def _identity(self, folder: str) -> tuple[int, int]:
        found = os.stat(self._path(folder))
        return found.st_dev, found.st_ino

    def _path(self, folder: str) -> str:
        return os.path.join(self.root, folder) if folder else self.root


def in_two_places(root: str, first: str, second: str, what: str) -> DataError:
    """The error that one real file or folder is in two classes, or in training and test."""
    return DataError(
        f"{first} and {second} in {root} are the same {what}, by links: an image belongs to one class, and either to "
        "training or to test; remove one of the two"
    )


def extension(name: str) -> str:
    """Of a file that is no image, as it is told: in lower case, with its dot."""
    return os.path.splitext(name)[1].lower() or "no extension"


def _leads_to(entry: os.DirEntry[str], test: Callable[[os.DirEntry[str]], bool]) -> bool:
    """Whether `test` holds for an entry; a link to itself is neither a folder nor a file."""
    try:
        return test(entry)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False
