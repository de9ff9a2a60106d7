"""The placement "decode", whose crops the device cuts, and what threads and chunks may not change."""

import dataclasses
import functools
import io

import jax
import numpy as np
import pytest
from image_bytes import Encoded, encode, smooth
from PIL import Image

from care_jax import augment, data
from care_jax.augment import AugmentSpec, ViewPlan
from care_jax.data import Examples, assembly, batch_indices, host_draws

RNG = np.random.default_rng(0)
NORMALISE = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.25)}
INVARIANCE = AugmentSpec(size=8, flip_probability=0.5, grayscale_probability=0.3, **NORMALISE)
CENTER = AugmentSpec(size=7, crop="center", center_fraction=0.875, **NORMALISE)
SEED, B = 5, 64
PLAN = ViewPlan(INVARIANCE, CENTER, SEED, batch_size=B, equivariance_batch_size=32, num_groups=4)


def batches(examples, *, steps=(0, 2), num_threads=2):
    start, stop = steps
    return data.host_batches(
        examples, PLAN, placement="decode", start_step=start, num_steps=stop, num_threads=num_threads
    )


@functools.partial(jax.jit, static_argnames="spec")
def apply(rows, images, spec):
    drawn = augment.sample(rows, spec, height=images.shape[1], width=images.shape[2])
    return augment.apply(drawn, images.astype(np.float32) / 255.0, spec)


@pytest.fixture(scope="module")
def encoded():
    """JPEG and PNG by turns, of few sizes: each compiles anew."""
    sizes = [(11, 17), (19, 19), (28, 13), (24, 29), (10, 22)]
    images = [smooth(*sizes[i % 5], RNG) for i in range(70)]
    return Examples(Encoded([encode(image, "JPEG" if i % 2 else "PNG", quality=90) for i, image in enumerate(images)]))


@pytest.fixture(scope="module")
def resident():
    return Examples(np.stack([np.asarray(smooth(12, 16, RNG)) for _ in range(100)]))


@jax.jit
def cut_on_device(canvases, boxes, rows):
    """What a step does with the placement "decode": the drawn augmentation, with its box in the canvas."""
    views = []
    for uniform, box in zip(rows.invariance, boxes, strict=True):
        drawn = augment.sample_given_box(uniform, INVARIANCE, tuple(box.T))
        views.append(augment.apply(drawn, canvases, INVARIANCE))
    return views


def central_box(image):
    height, width = image.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def test_equivariance_images_for_random_crops_have_their_size(encoded):
    plan = PLAN._replace(equivariance=dataclasses.replace(CENTER, crop="random_resized"))
    batch = next(data.host_batches(encoded, plan, placement="decode", start_step=0, num_steps=1, num_threads=2))
    assert batch["equivariance_images"].shape == (32, 7, 7, 3)


@pytest.mark.slow
def test_decode_leaves_the_drawn_boxes_to_the_device(encoded):
    rounding = 0.5 / 255 / min(NORMALISE["std"])
    routes = set()
    for step, batch in enumerate(batches(encoded)):
        assert batch["canvases"].shape == (B, 19, 19, 3)
        assert batch["canvases"].dtype == np.uint8
        assert batch["boxes"].dtype == np.float32
        rows = jax.jit(PLAN.uniforms)(step)
        views = np.asarray(cut_on_device(batch["canvases"], batch["boxes"], rows))
        rows = jax.device_get(rows)
        indices = batch_indices(SEED, step, num_examples=70, batch_size=B)
        for i, index in enumerate(indices):
            image = np.asarray(Image.open(io.BytesIO(encoded.images.read(index))).convert("RGB"))
            is_finished = batch["boxes"][1, i].tolist() == [0, 8, 8, 8]
            routes.add((is_finished, max(image.shape) > 19))
            for view, row in enumerate(rows.invariance[:, i]):
                expected = apply(row[None], image[None], INVARIANCE)[0]
                # Finished crops are bytes: Pillow rounds twice, once a pass.
                np.testing.assert_allclose(views[view, i], expected, atol=2.5 * rounding if is_finished else 1e-5)
            if i < 32:  # 8 pixels, 7 / 0.875: the central crop of it cuts whole ones
                square = Image.fromarray(image).crop(central_box(image)).resize((8, 8), Image.Resampling.BILINEAR)
                np.testing.assert_array_equal(batch["equivariance_images"][i], np.asarray(square))
    assert routes == {(False, False), (False, True), (True, True)}


def test_decode_of_resident_images_hands_them_over(resident):
    batch = next(batches(resident, steps=(3, 4)))
    indices = batch_indices(SEED, 3, num_examples=100, batch_size=B)
    np.testing.assert_array_equal(batch["canvases"], resident.images[indices])
    np.testing.assert_array_equal(batch["equivariance_images"], resident.images[indices[:32]])
    drawn = augment.sample(jax.jit(PLAN.uniforms)(3).invariance[1, 7], INVARIANCE, height=12, width=16)
    assert batch["boxes"][1, 7].tolist() == [int(x) for x in drawn[:4]]


@pytest.mark.parametrize(("images_a_call", "num_threads"), [(5, 1), (64, 3), (7, 6)])
def test_threads_and_chunks_make_no_difference(encoded, images_a_call, num_threads, monkeypatch):
    expected = list(batches(encoded))
    for module in (assembly, host_draws):
        monkeypatch.setattr(module, "IMAGES_A_CALL", images_a_call)
    for batch, same in zip(batches(encoded, num_threads=num_threads), expected, strict=True):
        for name in same:
            np.testing.assert_array_equal(batch[name], same[name])


def test_pixels_decoded_at_once_are_bounded_and_no_thread_waits_for_itself(encoded, most_at_once):
    """Each call opens up to 16 images; `most_at_once` has room for one, or two, of them."""
    assert len(list(batches(encoded, num_threads=16))) == 2
    assert len(list(data.batches_in_order(encoded, side=8, batch_size=16, num_threads=16))) == 5
    assert 0 < most_at_once[0] <= 29**2
    assert most_at_once[1] == 2 * B + 70  # each image once, whatever is made of it
