"""Pictures of clouds: where points lie, how large and in which colour, and what lies before what."""

import matplotlib
import numpy as np
import pytest

from care_jax.evaluate.thumbnails import thumbnails


def cloud(*points: tuple[float, float, float], length: int | None = None) -> np.ndarray:
    found = np.zeros((length or len(points), 4))
    found[: len(points), :3], found[: len(points), 3] = points, 1
    return found


def drawn(*clouds: np.ndarray, **settings) -> np.ndarray:
    return thumbnails(np.stack(clouds), **settings)


def ink(picture: np.ndarray) -> np.ndarray:
    """Which pixels are not white."""
    return (picture < 250).any(axis=-1)


def test_shapes():
    found = drawn(cloud((0, 0, 0)), cloud((1, 1, 1)), side=40)
    assert (found.dtype, found.shape) == (np.uint8, (2, 40, 40, 3))
    assert thumbnails(np.zeros((0, 5, 4)), side=40).shape == (0, 40, 40, 3)
    assert (drawn(np.zeros((3, 4)), side=40) == 255).all()  # no point at all


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.5)])
def test_a_point_lies_where_it_is(x, y):
    """The first axis to the right, the second upwards; the third is not seen."""
    (found,) = drawn(cloud((x, y, 0.0)), side=100, extent=2.0)
    rows, columns = np.nonzero(ink(found))
    assert columns.mean() + 0.5 == pytest.approx(50 + 25 * x, abs=0.5)
    assert rows.mean() + 0.5 == pytest.approx(50 - 25 * y, abs=0.5)


def test_nearer_points_are_larger_and_lie_before():
    near, middle, far = (ink(drawn(cloud((0, 0, z)), side=96, extent=1.0)[0]).sum() for z in (0.9, 0.0, -0.9))
    assert near > 1.5 * middle > 1.5 * 1.5 * far
    colours = 255 * matplotlib.colormaps["viridis"](np.linspace(0, 0.92, 2))[:, :3]
    for heights, first in (((0.9, -0.9), 0), ((-0.9, 0.9), 1)):
        (found,) = drawn(cloud(*((0, 0, z) for z in heights)), side=96, extent=1.0)
        np.testing.assert_allclose(found[48, 48], colours[first], atol=2)


def test_colours_count_places_not_points():
    """A shorter cloud has the colours that its points would have in a longer one."""
    points = [(-1.0, 0.0, 0.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0)]
    colours = 255 * matplotlib.colormaps["viridis"](np.linspace(0, 0.92, 5))[:, :3]
    (found,) = drawn(cloud(*points, length=5), side=100, extent=2.0)
    for number, column in enumerate((25, 50, 75)):
        np.testing.assert_allclose(found[50, column], colours[number], atol=2)


def test_neighbours_are_joined_where_they_are_near():
    def between(distance, length=2, third=()):
        (found,) = drawn(cloud((-distance / 2, 0, 0), (distance / 2, 0, 0), *third, length=length), side=96, extent=1.0)
        return bool(ink(found)[48, 48])

    assert between(0.4) and between(0.4, length=7) and not between(0.6)
    # Neighbours by number: those of a loop that meet are not.
    assert not between(0.6, 3, [(0.4, 0.0, 0.0)])


def test_all_points_of_all_clouds_fit():
    """The nearest at a corner, the largest that there is, is not cut."""
    small, large = cloud((0.1, 0, 0), (0, 0.1, 0)), cloud((5.0, -5.0, 5.0), (-5.0, 5.0, 5.0))
    found = drawn(small, large)
    whole = drawn(cloud((2.0, 2.0, 5.0), (-2.0, -2.0, 5.0)), extent=5.4)

    def darkness(picture):
        return (255.0 - picture).sum()

    assert darkness(found[1]) == pytest.approx(darkness(whole[0]), rel=0.03)
    # One scale for all that are shown together.
    np.testing.assert_array_equal(drawn(small, extent=5.4), found[:1])
    assert darkness(drawn(small)[0]) != darkness(found[0])


def test_padding_is_not_drawn():
    points = [(0.3, 0.2, 0.1), (-0.3, 0.1, 0.0), (0.0, -0.3, 0.2)]
    colours_alike = [cloud(*points, length=8), cloud(*points, length=8)]
    colours_alike[1][3:, 3] = 0
    assert ink(drawn(colours_alike[0], extent=1.0)[0]).sum() == ink(drawn(cloud(*points), extent=1.0)[0]).sum()
