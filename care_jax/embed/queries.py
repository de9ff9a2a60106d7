"""What is looked up among images or clouds of points: a file, or the number of one of them."""

import os

import ml_collections
import numpy as np

from care_jax import data
from care_jax.command_line import UsageError
from care_jax.data import DataError, Examples, SkippedFiles, proteins
from care_jax.embed.image_set import ImageSet


def find(word: str, bank: ImageSet, config: ml_collections.ConfigDict, *, side: int) -> tuple[int, np.ndarray]:
    """A query, and where it is among those that are searched.

    Of a structure file the first piece of the first chain that is long enough is taken.

    Args:
      word: a number in them, or the path of an image or a structure.
      bank: those that are searched.
      config: how a chain is cut.
      side: of the central squares that files of images are brought to, pixels.

    Returns:
      Its row; -1: it is not among them. And its pixels [s, s, 3], or its points [L, 4].

    Raises:
      UsageError: a number too large.
      DataError: nothing can be read from the file.
    """
    if not os.path.exists(word) and word.isdecimal():
        row, one = int(word), bank.examples.noun.removesuffix("s")
        if row >= len(bank.examples):
            raise UsageError(f"{one} {word}: there is no such file, and {bank.name} end at {len(bank.examples) - 1}")
        examples = bank.examples.take(np.array([row]))
    elif bank.examples.clouds:
        settings = config.data
        examples = proteins.first_piece(
            word, window_lengths=tuple(settings.window_lengths), window_stride=settings.window_stride
        )
        # By its points: the data set may have it under another name.
        same = (bank.examples.pixels == examples.pixels).all(axis=(1, 2))
        row = int(same.argmax()) if same.any() else -1
    else:
        examples = data.image_files([word])
        row = -1 if bank.examples.resident else _row_of(word, bank.examples.encoded)
    skipped = SkippedFiles()
    found = inputs(examples, side, skipped)
    if not len(found):
        raise DataError(f"{word} can't be used: {', '.join(skipped.reasons.values())}")
    return row, found[0]


def inputs(examples: Examples, side: int, skipped: SkippedFiles | None = None) -> np.ndarray:
    """Those that can be read, [m, s, s, 3] uint8; or clouds, [m, L, 4]."""
    batches = data.batches_in_order(examples, side=side, batch_size=len(examples), skipped=skipped)
    return np.concatenate([some[kept] for some, _, kept in batches])


def _row_of(file: str, images: data.EncodedImages) -> int:
    for row in range(len(images)):
        name = images.name(row)
        if os.path.basename(name) == os.path.basename(file) and os.path.exists(name) and os.path.samefile(name, file):
            return row
    return -1
