"""Uniforms to augmentations: torchvision's rules by a loop, the statistics of 20,000 draws, the edges."""

import itertools
import math

import jax
import numpy as np
import pytest

from care_jax import augment
from care_jax.augment import NUM_UNIFORMS, Augmentation, AugmentSpec
from care_jax.augment.sample import SLOTS

NORMALISATION = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}
EVERYTHING = AugmentSpec(
    size=32,
    flip_probability=0.5,
    jitter_probability=0.8,
    brightness=0.4,
    contrast=0.3,
    saturation=1.5,
    hue=0.1,
    grayscale_probability=0.2,
    blur_probability=0.6,
    blur_sigma=(0.1, 2.0),
    solarize_probability=0.1,
    rotation_degrees=30.0,
    translation=0.2,
    **NORMALISATION,
)
NUM_DRAWS = 20_000
# Six standard errors of a frequency over so many draws.
TOLERANCE = 6 * 0.5 / math.sqrt(NUM_DRAWS)

sample = jax.jit(augment.sample, static_argnums=1)


def uniforms(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, NUM_UNIFORMS), np.float32)


@pytest.fixture(scope="module")
def draws() -> Augmentation:
    """20,000 draws for images of 40 x 50 pixels."""
    return jax.tree.map(np.asarray, sample(uniforms(NUM_DRAWS), EVERYTHING, height=40, width=50))


def torchvision_box(row: np.ndarray, spec: AugmentSpec, height: int, width: int) -> tuple[int, int, int, int]:
    """`RandomResizedCrop.get_params` with its random numbers read from the row."""
    low, high = spec.crop_scale
    log_low, log_high = (math.log(r) for r in spec.crop_ratio)
    for attempt in range(10):
        area = height * width * (low + (high - low) * float(row[SLOTS["area"]][attempt]))
        ratio = math.exp(log_low + (log_high - log_low) * float(row[SLOTS["ratio"]][attempt]))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = math.floor(float(row[SLOTS["top"]][0]) * (height - h + 1))
            return top, math.floor(float(row[SLOTS["left"]][0]) * (width - w + 1)), h, w
    if width / height < spec.crop_ratio[0]:
        w, h = width, round(width / spec.crop_ratio[0])
    elif width / height > spec.crop_ratio[1]:
        w, h = round(height * spec.crop_ratio[1]), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize(
    ("height", "width", "scale"), [(32, 32, (0.08, 1.0)), (375, 500, (0.2, 1.0)), (9, 40, (0.9, 1.0)), (40, 9, (1, 1))]
)
def test_boxes_are_torchvisions(height: int, width: int, scale: tuple[float, float]):
    spec = AugmentSpec(size=8, crop_scale=scale, **NORMALISATION)
    rows = uniforms(2000)
    drawn = sample(rows, spec, height=height, width=width)
    boxes = np.stack([drawn.top, drawn.left, drawn.height, drawn.width], axis=1)
    expected = np.array([torchvision_box(row, spec, height, width) for row in rows])
    # The oracle rounds in float64: now and then a side falls on the other side of a half.
    same = (boxes == expected).all(axis=1)
    assert same.mean() > 0.998
    assert np.abs(boxes - expected).max() <= 1


def test_a_box_that_never_fits_is_the_central_one_of_the_nearest_ratio():
    spec = AugmentSpec(size=8, crop_scale=(1.0, 1.0), **NORMALISATION)
    drawn = sample(uniforms(1)[0], spec, height=100, width=10)
    assert [float(x) for x in drawn[:4]] == [43, 0, 13, 10]
    drawn = sample(uniforms(1)[0], spec, height=10, width=100)
    assert [float(x) for x in drawn[:4]] == [0, 43, 10, 13]


def test_the_first_candidate_that_fits_is_taken_not_the_best():
    row = np.full(NUM_UNIFORMS, 0.5, np.float32)
    spec = AugmentSpec(size=8, crop_scale=(0.01, 1.0), crop_ratio=(0.25, 4.0), **NORMALISATION)
    row[SLOTS["area"]] = [1, 1, 1, 0.2, 0.9] + [0.5] * 5  # the first three are too wide
    row[SLOTS["ratio"]] = [1, 1, 1, 0.5, 0.5] + [0.5] * 5
    drawn = sample(row, spec, height=20, width=20)
    assert float(drawn.height) == float(drawn.width) == round(math.sqrt(400 * (0.01 + 0.99 * 0.2)))


@pytest.mark.parametrize("edge", [0.0, float(np.nextafter(np.float32(1), np.float32(0)))])
@pytest.mark.parametrize("size", [(1, 1), (32, 32), (1, 7), (375, 500), (64, 3)])
def test_boxes_at_the_edges_lie_within_the_image(edge: float, size: tuple[int, int]):
    height, width = size
    rows = uniforms(64)
    rows[:32] = edge
    rows[:, SLOTS["top"]] = edge
    rows[:, SLOTS["left"]] = edge
    drawn = sample(rows, EVERYTHING, height=height, width=width)
    assert (drawn.height >= 1).all() and (drawn.width >= 1).all()
    assert (drawn.top >= 0).all() and (drawn.top + drawn.height <= height).all()
    assert (drawn.left >= 0).all() and (drawn.left + drawn.width <= width).all()
    for x in drawn[:4]:
        np.testing.assert_array_equal(x, np.round(x))


def test_corners_are_reached(draws: Augmentation):
    for start, extent, side in [(draws.top, draws.height, 40), (draws.left, draws.width, 50)]:
        room = side - extent
        assert start[room > 0].min() == 0
        assert ((start == room) & (room > 0)).any()
        # Uniform over [0, room], both ends included.
        position = start[room == 20]
        counts = np.bincount(position.astype(int), minlength=21)
        assert len(counts) == 21
        assert abs(counts - counts.mean()).max() < 6 * math.sqrt(counts.mean())


def test_area_and_ratio_have_the_ranges_asked_for(draws: Augmentation):
    area, ratio = draws.height * draws.width / 2000, draws.width / draws.height
    assert 0.06 < area.min() < 0.1 and 0.97 < area.max() <= 1
    assert 0.68 < ratio.min() < 0.77 and 1.3 < ratio.max() < 1.47


def test_frequencies_are_the_probabilities(draws: Augmentation):
    for values, probability in [
        (draws.flip, 0.5),
        (draws.jittered, 0.8),
        (draws.grayscale, 0.2),
        (draws.blur_sigma > 0, 0.6),
        (draws.solarize, 0.1),
    ]:
        assert set(np.unique(values)) == {0, 1}
        assert abs(values.mean() - probability) < TOLERANCE


def test_factors_are_uniform_over_torchvisions_ranges(draws: Augmentation):
    on = draws.jittered == 1
    for values, low, high in [
        (draws.brightness[on], 0.6, 1.4),
        (draws.contrast[on], 0.7, 1.3),
        (draws.saturation[on], 0.0, 2.5),
        (draws.hue[on], -0.1, 0.1),
        (draws.blur_sigma[draws.blur_sigma > 0], 0.1, 2.0),
        (draws.angle, -math.pi / 6, math.pi / 6),
        (draws.shift_y, -0.2, 0.2),
        (draws.shift_x, -0.2, 0.2),
    ]:
        scaled = (values - low) / (high - low)
        assert scaled.min() > -1e-6 and scaled.max() < 1 + 1e-6
        assert scaled.min() < 0.01 and scaled.max() > 0.99
        assert abs(scaled.mean() - 0.5) < TOLERANCE
        assert abs(scaled.var() - 1 / 12) < TOLERANCE


def test_without_jitter_the_factors_are_neutral(draws: Augmentation):
    off = draws.jittered == 0
    for factor in (draws.brightness, draws.contrast, draws.saturation):
        assert (factor[off] == 1).all()
        assert (factor[~off] != 1).mean() > 0.99
    assert (draws.hue[off] == 0).all()


def test_the_order_is_uniform_over_the_24_permutations(draws: Augmentation):
    permutations, counts = np.unique(draws.order, axis=0, return_counts=True)
    assert [tuple(p) for p in permutations] == list(itertools.permutations(range(4)))
    assert abs(counts - NUM_DRAWS / 24).max() < 6 * math.sqrt(NUM_DRAWS / 24)
    assert draws.order.dtype == np.int32


def test_draws_are_independent(draws: Augmentation):
    on = draws.jittered == 1
    names = ("top", "flip", "brightness", "contrast", "saturation", "hue", "grayscale", "blur_sigma", "solarize")
    columns = [getattr(draws, name)[on] for name in (*names, "angle", "shift_y", "shift_x")] + [draws.order[on, 0]]
    correlation = np.corrcoef(np.stack(columns)) - np.eye(len(columns))
    assert np.abs(correlation).max() < 5 / math.sqrt(on.sum())


def test_what_a_spec_leaves_off_is_drawn_neutral():
    drawn = sample(uniforms(100), AugmentSpec(size=8, **NORMALISATION), height=20, width=20)
    neutral = augment.identity(EVERYTHING, height=20, width=20, leading_shape=(100,))
    for name in set(Augmentation._fields) - {"top", "left", "height", "width", "order"}:
        np.testing.assert_array_equal(getattr(drawn, name), getattr(neutral, name), err_msg=name)


def test_a_center_crop_is_the_central_square():
    spec = AugmentSpec(size=224, crop="center", center_fraction=0.875, **NORMALISATION)
    drawn = sample(uniforms(3), spec, height=256, width=341)
    np.testing.assert_array_equal(np.stack(drawn[:4], axis=1), [[16, 58, 224, 224]] * 3)
    evaluation = augment.identity(spec, height=256, width=341)
    assert [float(x) for x in evaluation[:4]] == [16, 58, 224, 224]
    assert all(x.shape == () for x in evaluation[:-1] if x is not evaluation.order)
    assert evaluation.further.shape == (0,)
    tiny = augment.identity(spec, height=1, width=1)
    assert [float(x) for x in tiny[:4]] == [0, 0, 1, 1]


def test_identity_takes_one_size_an_image():
    drawn = augment.identity(EVERYTHING, height=np.array([20, 10]), width=np.array([10, 30]))
    np.testing.assert_array_equal(np.stack(drawn[:4], axis=1), [[5, 0, 10, 10], [0, 10, 10, 10]])
    assert drawn.order.shape == (2, 4)


def test_one_size_an_image_is_each_image_alone():
    rows, heights, widths = uniforms(3), np.array([32, 375, 9]), np.array([32, 500, 40])
    together = sample(rows, EVERYTHING, height=heights, width=widths)
    for i in range(3):
        alone = sample(rows[i], EVERYTHING, height=int(heights[i]), width=int(widths[i]))
        for one, many in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one, many[i])


def test_any_leading_shape():
    rows = uniforms(6)
    flat = sample(rows, EVERYTHING, height=32, width=32)
    stacked = sample(rows.reshape(2, 3, -1), EVERYTHING, height=32, width=32)
    for one, many in zip(flat, stacked, strict=True):
        np.testing.assert_array_equal(one, np.asarray(many).reshape(one.shape))


def test_everything_is_float32_but_the_order_even_from_float64():
    rows = np.full((2, NUM_UNIFORMS), np.nextafter(1.0, 0.0))  # rounds to 1 in float32
    with jax.enable_x64(True):
        drawn = jax.jit(augment.sample, static_argnums=1)(rows, EVERYTHING, height=32, width=32)
    for name, x in drawn._asdict().items():
        assert x.dtype == (np.int32 if name == "order" else np.float32), name
    np.testing.assert_array_equal(drawn.order, [[3, 2, 1, 0]] * 2)


def test_rows_of_another_width_are_refused():
    with pytest.raises(ValueError, match=rf"{NUM_UNIFORMS}.*\(2, 5\)"):
        augment.sample(np.zeros((2, 5)), EVERYTHING, height=32, width=32)


@pytest.mark.parametrize("per_image", [False, True])
def test_tensorflow_draws_the_same(per_image: bool):
    import tensorflow as tf

    rows = uniforms(500)
    generator = np.random.default_rng(1)
    height, width = (generator.integers(20, 500, 500) for _ in range(2)) if per_image else (32, 40)
    signature = [tf.TensorSpec([None, NUM_UNIFORMS], tf.float32)] + [tf.TensorSpec(None, tf.int64)] * 2
    in_tensorflow = tf.function(
        lambda rows, h, w: augment.sample(rows, EVERYTHING, height=h, width=w), input_signature=signature
    )
    there = in_tensorflow(rows, height, width)
    here = sample(rows, EVERYTHING, height=height, width=width)
    for name in Augmentation._fields:
        one, other = np.asarray(getattr(here, name)), getattr(there, name).numpy()
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6, err_msg=name)
