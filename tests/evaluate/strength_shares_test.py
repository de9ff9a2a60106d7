"""Shares over strength, of encoders whose answer to a strength is known; what can't be shown is left out."""

import numpy as np
import pytest

from care_jax.evaluate import strength_shares
from care_jax.evaluate.embed import Embedded
from care_jax.evaluate.strengths import SWEEPS

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)


def _colours(pixels: np.ndarray) -> np.ndarray:
    """Red against green and blue of the image's middle: a turn of the hue turns it, as far as whole bytes let it."""
    red, green, blue = np.moveaxis(pixels[:, 3:5, 3:5].astype(float).mean((1, 2)) / 255, -1, 0)
    return np.stack([red - (green + blue) / 2, np.sqrt(3) / 2 * (green - blue)], axis=-1)


def _found(embed, images=IMAGES):
    def embedder(variables, examples):
        assert variables == "weights" and examples.images.dtype == np.uint8
        return Embedded(None, embed(examples.images), np.arange(len(examples)))

    return strength_shares.strength_shares(embedder, "weights", images, embed(images))


def test_what_grows_with_the_strength_and_what_does_not():
    found = _found(_colours)
    assert found.keys() == SWEEPS.keys()
    # Less saturation shrinks a colour towards gray: no rotation.
    assert max(share.mean for share in found["saturation"].values()) < 0.1
    assert list(found["hue"]) == list(SWEEPS["hue"].strengths)
    assert found["hue"][0.5].mean > 0.6 > found["crop"][0.5].mean
    share = found["crop"][0.5]
    assert share.low < share.mean < share.high and share.n == 40


def test_what_moves_nothing_and_what_is_broken_is_left_out():
    assert _found(lambda pixels: np.ones((len(pixels), 3))) == {}
    assert _found(lambda pixels: np.full((len(pixels), 3), np.nan)) == {}
    assert _found(_colours, IMAGES[:3]) == {}
    assert _found(lambda pixels: np.ones((len(pixels), strength_shares.WIDEST + 1))) == {}
    size = _found(lambda pixels: pixels[:, :1, 0].astype(float).mean((1, 2))[:, None] ** [[1, 2]])
    assert size.keys() <= SWEEPS.keys()


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (4, 1), (5, 2), (7, 2)])
def test_a_panel_an_augmentation(count, rows):
    shares = dict(list(_found(_colours).items())[:count])
    figure = strength_shares.picture(shares)
    assert [axis.get_title() for axis in figure.axes] == list(shares)
    for axis, of_strengths in zip(figure.axes, shares.values(), strict=True):
        line = axis.lines[1]
        np.testing.assert_array_equal(line.get_xdata(), list(of_strengths))
        np.testing.assert_allclose(line.get_ydata(), [100 * max(share.mean, -0.5) for share in of_strengths.values()])
    assert figure.get_size_inches()[1] == pytest.approx(2.1 * rows)
    assert strength_shares.picture({}) is None
