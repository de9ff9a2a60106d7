"""A batch is a function of (seed, step), and each epoch a permutation."""

import doctest

import numpy as np
import pytest

from care_jax.data import indices
from care_jax.data.indices import batch_indices, local_rows


def test_doctests():
    results = doctest.testmod(indices)
    assert results.attempted > 0 and results.failed == 0


def test_an_epoch_is_a_permutation_cut_into_batches():
    drawn = np.stack([batch_indices(3, step, num_examples=12, batch_size=4) for step in range(6)])
    assert drawn.dtype == np.int32
    for epoch in (drawn[:3], drawn[3:]):
        assert sorted(epoch.ravel()) == list(range(12))
    assert drawn[:3].tolist() != drawn[3:].tolist()


def test_oracle():
    permutation = np.random.default_rng([7, 2]).permutation(10)
    # 10 // 3 = 3 batches an epoch; step 8 is the last of epoch 2.
    assert batch_indices(7, 8, num_examples=10, batch_size=3).tolist() == permutation[6:9].tolist()


def test_another_remainder_is_left_out_each_epoch():
    left_out = set()
    for epoch in range(60):
        seen = np.concatenate([batch_indices(0, 2 * epoch + i, num_examples=7, batch_size=3) for i in range(2)])
        assert len(set(seen)) == 6
        left_out |= set(range(7)) - set(seen.tolist())
    assert left_out == set(range(7))


def test_a_function_of_seed_and_step_alone():
    in_order = [batch_indices(1, step, num_examples=9, batch_size=2) for step in range(30)]
    for step in (29, 0, 13, 5, 28):
        batch_indices(2, step, num_examples=9, batch_size=2)  # another run in between
        np.testing.assert_array_equal(batch_indices(1, step, num_examples=9, batch_size=2), in_order[step])


def test_what_it_returns_can_be_written_to_without_harm():
    first = batch_indices(0, 0, num_examples=5, batch_size=5)
    expected = first.copy()
    first[:] = -1
    np.testing.assert_array_equal(batch_indices(0, 0, num_examples=5, batch_size=5), expected)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"num_examples": 3, "batch_size": 4}, "batch_size 4 .* 3"),
        ({"num_examples": 3, "batch_size": 0}, "batch_size 0"),
    ],
)
def test_batch_sizes_out_of_range(arguments, told):
    with pytest.raises(ValueError, match=told):
        batch_indices(0, 0, **arguments)


def test_negative_seeds_and_steps():
    with pytest.raises(ValueError, match="seed -1"):
        batch_indices(-1, 0, num_examples=2, batch_size=1)
    with pytest.raises(ValueError, match="step -2"):
        batch_indices(0, -2, num_examples=2, batch_size=1)


def test_processes_share_the_rows():
    assert [local_rows(12, p, 3) for p in range(3)] == [range(4), range(4, 8), range(8, 12)]
    with pytest.raises(ValueError, match="process 3 of 3 and batch size 12"):
        local_rows(12, 3, 3)
