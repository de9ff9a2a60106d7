"""Chains: windows of one length, groups of similar sequence, and a split between groups."""

import numpy as np
import pytest

from care_jax.data import DataError, chains
from care_jax.data.chains import SCALE, Chain, similar_groups, split, windows
from care_jax.metrics.clouds import radius_of_gyration


def sequence(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list(chains.AMINO_ACIDS), length))


def chain(length: int, seed: int = 0, name: str = "a.pdb:A", of: str | None = None) -> Chain:
    points = np.cumsum(np.random.default_rng(seed).normal(size=(length, 3)), axis=0) + 100.0
    return Chain(name, points, sequence(length, seed) if of is None else of)


def mutated(text: str, share: float, seed: int) -> str:
    generator = np.random.default_rng(seed)
    changed = generator.random(len(text)) < share
    letters = list(chains.AMINO_ACIDS)
    return "".join(str(generator.choice(letters)) if change else old for old, change in zip(text, changed, strict=True))


@pytest.mark.parametrize(
    ("residues", "starts"),
    [(64, [0]), (127, [0]), (128, [0]), (129, [0, 1]), (192, [0, 64]), (193, [0, 64, 65]), (300, [0, 64, 128, 172])],
)
def test_every_residue_is_in_a_window(residues, starts):
    whole = chain(residues)
    points, mask = windows(whole, length=128, stride=64)
    assert points.shape == (len(starts), 128, 3) and points.dtype == np.float64
    assert mask.shape == (len(starts), 128) and mask.dtype == bool
    for start, cloud, kept in zip(starts, points, mask, strict=True):
        part = whole.points[start : start + 128]
        assert kept.sum() == len(part) and kept[: len(part)].all()
        np.testing.assert_allclose(cloud[kept], (part - part.mean(axis=0)) / SCALE, rtol=1e-12)
        np.testing.assert_allclose(cloud[kept].mean(axis=0), 0.0, atol=1e-12)
        assert not cloud[~kept].any()


def test_one_scale_for_all():
    """A cloud of twice the size stays one."""
    small = chain(100)
    large = Chain("large", 2 * small.points, small.sequence)
    radii = [radius_of_gyration(*windows(each)) for each in (small, large)]
    np.testing.assert_allclose(radii[1], 2 * radii[0], rtol=1e-12)
    np.testing.assert_allclose(radii[0] * SCALE, radius_of_gyration(small.points[None], np.ones((1, 100), bool)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 1}, "length must be at least 2 residues, got 1"),
        ({"stride": 0}, "stride must be from 1 to length, 128 residues, got 0"),
        ({"length": 64, "stride": 65}, "stride must be from 1 to length, 64 residues, got 65"),
    ],
)
def test_windows_that_are_refused(settings, message):
    with pytest.raises(DataError, match=message):
        windows(chain(200), **settings)


def test_chains_that_are_refused():
    with pytest.raises(DataError, match="b has no residues"):
        windows(Chain("b", np.zeros((0, 3)), ""))
    for points in (np.zeros((3, 3)), np.zeros((2, 3), np.float32), np.zeros((2, 2))):
        with pytest.raises(DataError, match=r"points of b must be float64 \[2, 3\], one a residue; got float"):
            Chain("b", points, "AC")
    with pytest.raises(DataError, match="points of b must be finite"):
        Chain("b", np.full((2, 3), np.nan), "AC")


def test_what_is_similar():
    one, other = sequence(200, 1), sequence(200, 2)
    near, far = mutated(one, 0.2, 3), mutated(one, 0.8, 4)
    labels = similar_groups([one, other, near, one, one[50:120], far, "AC", "AC", "CA", other[:30] + one[:100]])
    assert labels.tolist() == [0, 0, 0, 0, 0, 1, 2, 2, 3, 0]  # the last one links `one` and `other`
    assert similar_groups([one, other, near]).tolist() == [0, 1, 0]
    long = sequence(900, 5)
    assert similar_groups([long, long[400:430]]).tolist() == [0, 0]  # a fragment is in the whole, however long that is
    assert similar_groups([]).tolist() == []


def test_all_pairs_say_the_same():
    """The index against a loop over pairs, and groups against a search from each member."""
    base = [sequence(80, seed) for seed in range(12)]
    sequences = [mutated(base[row % 12], 0.15 * (row // 12), row) for row in range(48)]
    words = [{text[i : i + chains.WORD] for i in range(len(text) - chains.WORD + 1)} for text in sequences]
    linked = np.array([[len(a & b) / min(len(a), len(b)) >= chains.SIMILAR for b in words] for a in words])
    labels = similar_groups(sequences)
    assert 12 <= labels.max() + 1 < 48
    for row in range(48):
        reached, pending = {row}, [row]
        while pending:
            new = set(np.flatnonzero(linked[pending.pop()]).tolist()) - reached
            reached |= new
            pending.extend(new)
        assert set(np.flatnonzero(labels == labels[row]).tolist()) == reached


def test_a_letter_that_is_no_amino_acid_is_in_no_word():
    common = "X".join(sequence(4, seed) for seed in range(10))
    assert similar_groups([common + sequence(50, 20), common + sequence(50, 21)]).tolist() == [0, 1]


def family(count: int, members: int) -> list[Chain]:
    found = []
    for group in range(count):
        text = sequence(80, group)
        found += [
            chain(80, name=f"{group}.pdb:{i}", of=mutated(text, 0.1 * i, 100 * group + i)) for i in range(members)
        ]
    return found


def test_groups_stay_whole():
    every = family(20, 3)
    for seed in range(5):
        train, test, note = split(every, 0.2, seed)
        assert len(test) == 12 and len(train) == 48
        assert not {each.name.partition(".")[0] for each in train} & {each.name.partition(".")[0] for each in test}
        assert [each for each in every if each in train] == train
        assert note.startswith("60 chains in 20 groups of similar sequence; 4 groups are held out (12 chains, 20.0%);")
        assert "share 0.0% of their words of 5 residues at most, similar is 5%" in note


def test_the_same_chains_are_split_in_the_same_way():
    every = family(10, 2)
    names = [{each.name for each in split(order, 0.3, 1).test} for order in (every, every[::-1])]
    assert names[0] == names[1]
    assert {each.name for each in split(every, 0.3, 2).test} != names[0]


def test_a_group_that_does_not_fit_is_trained_on():
    every = [*family(1, 5), chain(80, 9, "b.pdb:A"), chain(80, 10, "c.pdb:A")]
    for seed in range(5):
        assert {each.name for each in split(every, 0.3, seed).test} == {"b.pdb:A", "c.pdb:A"}
        assert len(split(every, 0.01, seed).test) == 1  # the smallest there is


def test_splits_that_are_refused():
    for fraction in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(DataError, match="test_fraction must be between 0 and 1"):
            split(family(3, 1), fraction)
    with pytest.raises(DataError, match="4 chains in 1 group of similar sequence can't be split into training and"):
        split(family(1, 4), 0.2)
    with pytest.raises(DataError, match="0 chains in 0 group"):
        split([], 0.2)
    with pytest.raises(DataError, match="two chains are called a"):
        split([chain(70, 0, "a"), chain(70, 1, "a")], 0.2)
