"""Protein chains as clouds of points: windows of one length, and a split that keeps similar chains on one side."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from care_jax.data.errors import DataError

# Ångström, about the radius of gyration of a window of 128 residues (the median of 167 windows of 83 chains is 15.0 Å;
# of 64 residues 13.4 Å). One number for all data sets: sizes stay comparable, and no cloud is scaled by what it is.
SCALE = 15.0
# Chains are similar from this share of common words of `WORD` residues on. Two sequences of which a share p of the
# residues are equal, evenly spread, share about p^5 of these words: 0.05 is 55 %. By chance two chains of 64 and 1,000
# residues share 0.0003. Of 9,831 pairs of real chains all 109 with 50 % or more in an alignment were above, none with
# less than 40 %.
WORD = 5
SIMILAR = 0.05
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"


@dataclasses.dataclass(frozen=True)
class Chain:
    """One chain of a protein.

    Attributes:
      name: its file and its name there, "1abc.cif:A".
      points: Cα atoms, float64 [k, 3], ångström.
      sequence: its k amino acids, one letter each.

    Raises:
      DataError: points of another shape or type, or not finite; a sequence of another length; the message names it.
    """

    name: str
    points: np.ndarray
    sequence: str

    def __post_init__(self) -> None:
        expected = len(self.sequence), 3
        if self.points.dtype != np.float64 or self.points.shape != expected:
            raise DataError(
                f"points of {self.name} must be float64 {list(expected)}, one a residue; "
                f"got {self.points.dtype} {list(self.points.shape)}"
            )
        if not np.isfinite(self.points).all():
            raise DataError(f"points of {self.name} must be finite")

    def __len__(self) -> int:
        """Number of residues k."""
        return len(self.sequence)


class Clouds(NamedTuple):
    """Clouds of points, padded to one length.

    Attributes:
      points: float64 [n, L, 3], in units of `SCALE`; 0 where there is none.
      mask: bool [n, L], True where there is a point.
    """

    points: np.ndarray
    mask: np.ndarray


class Split(NamedTuple):
    """Chains to train on and to test on.

    Attributes:
      train, test: in the order given.
      note: what was grouped, held out and checked, in words.
    """

    train: list[Chain]
    test: list[Chain]
    note: str


def windows(chain: Chain, *, length: int = 128, stride: int = 64) -> Clouds:
    """Stretches of a chain, each about its own centre.

        points = (x - mean x) / SCALE        over the residues of the window

    They begin at residues 0, stride, 2 stride, ..., and one more ends with the chain where those don't: every residue
    is in one. A chain of fewer residues than `length` is one window, padded.

    Args:
      chain: of k residues. Residues that the structure lacks are no points: a window may reach across such a gap.
      length: residues of a window, L.
      stride: residues between two beginnings, at most `length`.

    Returns:
      n = 1 + ceil(max(k - L, 0) / stride) clouds.

    Raises:
      DataError: length < 2; stride outside [1, length]; a chain without residues.
    """
    if length < 2:
        raise DataError(f"length must be at least 2 residues, got {length}")
    if not 1 <= stride <= length:
        raise DataError(f"stride must be from 1 to length, {length} residues, got {stride}")
    if not len(chain):
        raise DataError(f"{chain.name} has no residues")
    last = max(len(chain) - length, 0)
    starts = [*range(0, last, stride), last]
    points = np.zeros((len(starts), length, 3))
    mask = np.zeros((len(starts), length), bool)
    for row, start in enumerate(starts):
        window = chain.points[start : start + length]
        points[row, : len(window)] = (window - window.mean(axis=0)) / SCALE
        mask[row, : len(window)] = True
    return Clouds(points, mask)


def similar_groups(sequences: Sequence[str]) -> np.ndarray:
    """Groups of sequences in which each is linked to another by similarity (single linkage).

        similarity(a, b) = |W_a ∩ W_b| / min(|W_a|, |W_b|) >= SIMILAR

    with W the set of words of `WORD` consecutive residues: the share of the shorter one's words that the other has too,
    so a fragment is similar to the whole. Equal sequences are always in one group, also those shorter than a word. It
    finds what is equal in about 55 % of its residues or more; proteins of one fold with less in common stay apart.

    Returns:
      int64 [n]: each one's group, numbered by first appearance.
    """
    rows = {sequence: row for row, sequence in enumerate(dict.fromkeys(sequences))}
    index, labels, groups = _WordIndex(list(rows)), np.full(len(rows), -1), 0
    for first in range(len(rows)):
        if labels[first] >= 0:
            continue
        labels[first], pending = groups, [first]
        while pending:
            index.forget(labels >= 0)
            linked = np.flatnonzero((index.similarity(pending.pop()) >= SIMILAR) & (labels < 0))
            labels[linked] = groups
            pending.extend(linked.tolist())
        groups += 1
    return labels[[rows[sequence] for sequence in sequences]] if rows else labels


def split(chains: Sequence[Chain], test_fraction: float, seed: int = 0) -> Split:
    """Holds out whole groups of similar chains: no chain, and none similar to it (`similar_groups`), is on both sides.

    The groups, in an order drawn from the seed, are held out as long as they fit into the share that was asked for; the
    smallest one where none does. So the largest families are rather trained on. Names decide, not the order of
    `chains`: the same chains are split in the same way.

    Args:
      chains: n chains with names of their own.
      test_fraction: share of the chains to hold out.
      seed: of the order.

    Raises:
      DataError: test_fraction outside (0, 1); fewer than two groups; two chains of one name.
    """
    if not 0.0 < test_fraction < 1.0:
        raise DataError(f"test_fraction must be between 0 and 1, got {test_fraction}")
    order = sorted(range(len(chains)), key=lambda row: chains[row].name)
    for before, after in itertools.pairwise(order):
        if chains[before].name == chains[after].name:
            raise DataError(f"two chains are called {chains[after].name}: a split needs names of their own")
    labels = np.empty(len(chains), np.int64)
    labels[order] = similar_groups([chains[row].sequence for row in order])
    sizes = np.bincount(labels)
    if len(sizes) < 2:
        raise DataError(
            f"{len(chains)} chains in {len(sizes)} group of similar sequence can't be split into training and test: "
            "add structures of other proteins"
        )
    held_out: list[int] = []
    room = test_fraction * len(chains) + 1e-9  # rounding must not cost a group
    for group in np.random.default_rng(seed).permutation(len(sizes)).tolist():
        if sizes[group] <= room:
            held_out.append(group)
            room -= sizes[group]
    in_test = np.isin(labels, held_out or [int(sizes.argmin())])
    train, test = ([chain for chain, held in zip(chains, in_test, strict=True) if held == side] for side in (0, 1))
    groups = len(set(labels[in_test].tolist()))
    return Split(train, test, _note(chains, in_test, len(sizes), groups))


def _note(chains: Sequence[Chain], in_test: np.ndarray, groups: int, held_out: int) -> str:
    """What a split is, with the closest pair across it, looked for anew."""
    index = _WordIndex([chain.sequence for chain in chains])
    index.forget(in_test)
    held = "1 group is" if held_out == 1 else f"{held_out} groups are"
    closest = max(float(index.similarity(row)[~in_test].max()) for row in np.flatnonzero(in_test).tolist())
    return (
        f"{len(chains)} chains in {groups} groups of similar sequence; {held} held out "
        f"({in_test.sum()} chains, {in_test.mean():.1%}); a chain for training and one for test share {closest:.1%} of "
        f"their words of {WORD} residues at most, similar is {SIMILAR:.0%}"
    )


class _WordIndex:
    """Which sequences have a word: pairs are found without looking at all of them."""

    def __init__(self, sequences: Sequence[str]):
        self._words = [_words(sequence) for sequence in sequences]
        self._sizes = np.array([len(words) for words in self._words], np.int64)
        rows = np.repeat(np.arange(len(sequences)), self._sizes)
        self._build(np.concatenate([*self._words, np.empty(0, np.int64)]), rows)

    def similarity(self, row: int) -> np.ndarray:
        """Of sequence `row` to each, [n]; 0 where one is shorter than a word. Of those forgotten: that, or 0."""
        words = self._words[row]
        found = np.searchsorted(self._distinct, words)
        found = found[self._distinct[found] == words]
        starts, counts = self._starts[found], self._starts[found + 1] - self._starts[found]
        # The entries of all its words, one range behind the other.
        entries = np.arange(counts.sum()) + np.repeat(starts - (np.cumsum(counts) - counts), counts)
        shared = np.bincount(self._rows[entries], minlength=len(self._sizes))
        return shared / np.maximum(np.minimum(self._sizes, self._sizes[row]), 1)

    def forget(self, rows: np.ndarray) -> None:
        """Looks for these, bool [n], no more, once they are half of it: that is what keeps large groups fast."""
        if 2 * self._sizes[~rows].sum() <= len(self._rows):
            kept = ~rows[self._rows]
            self._build(np.repeat(self._distinct[:-1], np.diff(self._starts))[kept], self._rows[kept])

    def _build(self, words: np.ndarray, rows: np.ndarray) -> None:
        order = np.argsort(words, kind="stable")
        self._rows = rows[order]
        distinct, counts = np.unique(words, return_counts=True)
        self._distinct = np.append(distinct, np.iinfo(np.int64).max)  # one to look at for a word above all
        self._starts = np.concatenate([[0], np.cumsum(counts)])


def _words(sequence: str) -> np.ndarray:
    """The distinct words of a sequence as numbers, sorted; none with a letter that is no amino acid."""
    letters = np.array([AMINO_ACIDS.find(letter) for letter in sequence], np.int64)
    if len(letters) < WORD:
        return np.empty(0, np.int64)
    words = np.lib.stride_tricks.sliding_window_view(letters, WORD)
    words = words[(words >= 0).all(axis=1)]
    return np.unique(words @ len(AMINO_ACIDS) ** np.arange(WORD))
