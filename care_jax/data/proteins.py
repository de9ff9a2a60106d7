"""Pieces of protein chains as clouds of points: a data set of clouds, of a folder of structures or of a package's."""

import importlib.util
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from care_jax.data import chains
from care_jax.data.chains import Chain
from care_jax.data.errors import DataError
from care_jax.data.examples import DataSet, Examples
from care_jax.data.structures import read_structure_file, read_structures

# A test suite that ships real structures: nothing is copied from it, and nothing of it is imported.
PACKAGE = "MDAnalysisTests"
# The data set is fixed: the same chains held out for every run, whatever the run's seed.
_SEED = 0
LENGTHS, STRIDE = (64, 96, 128), 8


class Pieces(NamedTuple):
    """Clouds with what each is of.

    Attributes:
      clouds: float32 [n, L, 4], as `augment.clouds` has them, in units of `chains.SCALE`.
      names: of each, "file:chain residues 1-64"; counted along the residues that the structure has.
    """

    clouds: np.ndarray
    names: tuple[str, ...]


def load_proteins(
    root: str | os.PathLike[str] | None = None,
    *,
    window_lengths: Sequence[int] = LENGTHS,
    window_stride: int = STRIDE,
    test_fraction: float = 0.2,
) -> DataSet:
    """Pieces of chains by their Cα atoms, each about its own centre, in units of 15 Å.

    Chains are split, not pieces, and those of similar sequence stay on one side (`chains.split`).

    Args:
      root: a folder of PDB and mmCIF files (`structures.read_structures`); None: those that the package MDAnalysisTests
        ships, which the extra `proteins` brings.
      window_lengths: residues of a piece. A chain has pieces of each length that it reaches.
      window_stride: residues between the beginnings of two pieces.
      test_fraction: share of the chains that is held out.

    Returns:
      A resident, unlabelled `DataSet` of clouds, of as many places as the longest length has.

    Raises:
      DataError: no structures, none long enough, all alike; lengths or a stride out of range.
    """
    lengths = _lengths(window_lengths, window_stride)
    folder, source = (os.fspath(root), "") if root is not None else (os.fspath(packaged()), _packaged_name())
    found, skipped = read_structures(folder, min_length=lengths[0])
    split = chains.split(found, test_fraction=test_fraction, seed=_SEED)
    train, test = (pieces(part, lengths, window_stride) for part in (split.train, split.test))
    examples = [Examples(part.clouds, names=part.names) for part in (train, test)]
    notes = [source] if source else []
    notes += [f"pieces of {', '.join(map(str, lengths))} residues, every {window_stride}", split.note]
    notes += filter(None, (skipped.chains.summary(), *skipped.notes))
    return DataSet("proteins", examples[0], examples[0], examples[1], {}, skipped=skipped.files, notes=notes)


def clouds_below(
    root: str | os.PathLike[str], *, window_lengths: Sequence[int] = LENGTHS, window_stride: int = STRIDE
) -> tuple[Examples, str]:
    """Pieces of all chains in a folder and below, as `load_proteins` cuts them, none held out.

    Args:
      root: a folder of PDB and mmCIF files (`structures.read_structures`).
      window_lengths, window_stride: as of `load_proteins`.

    Returns:
      The clouds; what was left out, in words, empty where nothing was.

    Raises:
      DataError: no structures, none long enough; lengths or a stride out of range.
    """
    lengths = _lengths(window_lengths, window_stride)
    found, skipped = read_structures(root, min_length=lengths[0])
    cut = pieces(found, lengths, window_stride)
    return Examples(cut.clouds, names=cut.names), "; ".join(skipped.summary())


def first_piece(
    file: str | os.PathLike[str], *, window_lengths: Sequence[int] = LENGTHS, window_stride: int = STRIDE
) -> Examples:
    """The first of the shortest pieces of a file's first chain that is long enough: one cloud.

    Args:
      file: PDB or mmCIF.
      window_lengths, window_stride: as of `load_proteins`.

    Raises:
      DataError: nothing can be read from it, no chain is long enough; lengths or a stride out of range.
    """
    lengths = _lengths(window_lengths, window_stride)
    cut = pieces(read_structure_file(file, min_length=lengths[0])[:1], lengths, window_stride)
    return Examples(cut.clouds[:1], names=cut.names[:1])


def _lengths(window_lengths: Sequence[int], window_stride: int) -> list[int]:
    """Without repetition, the shortest first; a DataError where they or the stride are out of range."""
    lengths = sorted(set(window_lengths))
    if not lengths or lengths[0] < 4:
        raise DataError(f"window_lengths must be 4 residues or more, each; got {tuple(window_lengths)}")
    if not 1 <= window_stride <= lengths[0]:
        raise DataError(
            f"window_stride must be from 1 to the shortest of window_lengths, {lengths[0]} residues; got "
            f"{window_stride}"
        )
    return lengths


def pieces(found: Sequence[Chain], lengths: Sequence[int], stride: int) -> Pieces:
    """All pieces of chains, padded to the longest length; of a chain each length that it reaches."""
    clouds, names = [], []
    for chain in found:
        for length in lengths:
            if length > len(chain):
                continue
            cut = chains.windows(chain, length=length, stride=stride)
            cloud = np.zeros((len(cut.points), max(lengths), 4), np.float32)
            cloud[:, :length, :3], cloud[:, :length, 3] = cut.points, cut.mask
            clouds.append(cloud)
            last = len(chain) - length
            starts = [*range(0, last, stride), last]
            names += [f"{chain.name} residues {start + 1}-{start + length}" for start in starts]
    return Pieces(np.concatenate(clouds), tuple(names))


def packaged() -> Path:
    """The folder of structures that the package ships.

    Raises:
      DataError: it is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DataError(
            f"the proteins are those of the package {PACKAGE}, which is not installed: pip install "
            "'care_jax[proteins]', or give a folder of PDB and mmCIF files, --config.data.root=my_structures"
        )
    return Path(spec.origin).with_name("data") / "dssp"


def _packaged_name() -> str:
    return f"structures of the package {PACKAGE} {version(PACKAGE)}"
