"""The largest batch that fits, against a device whose memory is known to the byte."""

import pytest

from care_jax.cost import suggest
from care_jax.cost.suggest import SuggestError, Tried


def run(peak, memory, *, said=lambda peak: peak, **settings):
    """What is tried where a batch takes `peak(batch)` bytes; `said` of it if the compiler refuses it."""

    def try_batch(batch: int) -> Tried:
        fits = peak(batch) <= memory
        return Tried(batch, fits, peak(batch) if fits else said(peak(batch)), "" if fits else "RESOURCE_EXHAUSTED")

    defaults = {"start": 256, "unit": 64, "least": 64, "most": 50_000}
    return suggest.largest(try_batch, memory, **{**defaults, **settings})


def best(tried) -> int:
    return max((one.batch_size for one in tried if one.fits), default=0)


@pytest.mark.parametrize("said", [lambda peak: peak, lambda peak: None])
@pytest.mark.parametrize(
    ("peak", "memory"),
    [
        (lambda b: 1000 + 7 * b, 16_000),
        (lambda b: 1000 + 7 * b, 1_600),  # the first does not fit
        (lambda b: 500 + b * b // 100, 100_000),  # no straight line
        (lambda b: 3 * (b // 512 + 1) * 512, 9_000),  # in steps
    ],
)
def test_what_is_found_is_the_largest_to_within_a_sixteenth(peak, memory, said):
    tried = run(peak, memory, said=said)
    found = best(tried)
    assert found % 64 == 0 and peak(found) <= memory
    assert peak(found + max(64, found // 16)) > memory
    assert len(tried) == len({one.batch_size for one in tried}) <= 12


def test_a_straight_line_takes_four_compilations():
    assert len(run(lambda b: 1000 + 7 * b, 160_000)) <= 4


def test_no_more_than_there_are_images_and_no_less_than_is_asked_for():
    assert [one.batch_size for one in run(lambda b: b, 10**9, most=300)] == [256]
    assert best(run(lambda b: b, 10**9, most=1000)) == 960
    assert [one.batch_size for one in run(lambda b: 10**9, 10, start=128, least=100)] == [128]
    assert best(run(lambda b: b, 10)) == 0
    with pytest.raises(SuggestError, match="no batch between 128 and 64 is a multiple of 64"):
        run(lambda b: b, 10, least=70, most=100)


def test_devices_micro_batches_and_groups_divide_it(tiny_config):
    config = tiny_config(train__micro_batches=3, equivariance__num_groups=5)
    for weight in (0.1, 0.0):  # groups are checked at either
        config.equivariance.weight, config.equivariance.batch_size = weight, None
        assert suggest.unit(config, 4) == 60 and suggest.least(config) == 10
        config.equivariance.batch_size = 20  # of which the groups are; it stays
        assert suggest.unit(config, 4) == 12 and suggest.least(config) == 20
