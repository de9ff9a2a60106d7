"""Images that are only looked at: no parts, no layout; whatever lies in a folder, or files by their names."""

import errno
import os
from collections.abc import Sequence

from care_jax.data.decode import EXTENSIONS
from care_jax.data.errors import DataError, some
from care_jax.data.examples import Examples
from care_jax.data.files import UNKNOWN_SIZE, list_files
from care_jax.data.folder_tree import Tree
from care_jax.data.image_folder import FolderImages


def images_below(root: str | os.PathLike[str]) -> tuple[Examples, list[str], str]:
    """All images in a folder and in those below it, encoded, sorted, folder by folder.

    Links are followed; a folder that several names lead to is looked into once.

    Returns:
      The images; their paths below the folder; what was left out, in words, empty where nothing was.

    Raises:
      DataError: there is no such folder, it can't be looked into, or holds no image.
    """
    root = os.fspath(root)
    try:
        tree = Tree(root, splits=True)  # training and test images are images alike
        names, ignored, _ = tree.below("")
        others = ", ".join(f"{kind} {count}" for kind, count in ignored.most_common(5))
        if not names:
            raise DataError(f"no images ({', '.join(EXTENSIONS)}) in {root}{f', only {others}' if others else ''}")
        notes = [f"ignored {ignored.total()} other files ({others})"] if ignored else []
        if tree.repeated:
            notes.append(f"passed over {len(tree.repeated)} names of folders that have others ({some(tree.repeated)})")
        return Examples(FolderImages(list_files(root, names))), names, "; ".join(notes)
    except NotADirectoryError as error:
        raise DataError(f"{root} is a file, not a folder of images") from error
    except OSError as error:
        raise DataError(f"can't look into {error.filename or root}: {error.strerror or error}") from error


def image_files(paths: Sequence[str]) -> Examples:
    """Files by their paths, encoded, in this order.

    Raises:
      DataError: one of them is not there, or is no file.
    """
    try:
        listing = list_files("", paths)
    except OSError as error:
        raise DataError(f"can't read {error.filename}: {error.strerror or error}") from error
    for path, size in zip(paths, listing.sizes, strict=True):
        if size == UNKNOWN_SIZE:
            what = "a folder, not an image" if os.path.isdir(path) else os.strerror(errno.ENOENT)
            raise DataError(f"can't read {path}: {what}")
    return Examples(FolderImages(listing))
