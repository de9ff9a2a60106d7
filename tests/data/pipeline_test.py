"""Batches made on the host: the same pixels as on the device, at any step, on any number of processes."""

import functools
import io
import math
import subprocess
import sys

import jax
import numpy as np
import pytest
from image_bytes import Encoded, encode, smooth
from PIL import Image

from care_jax import augment, data
from care_jax.augment import AugmentSpec, ViewPlan
from care_jax.data import DataError, Examples, SkippedFiles, batch_indices, pipeline

RNG = np.random.default_rng(0)
NORMALISE = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.25)}
COLORS = {
    "flip_probability": 0.5,
    "jitter_probability": 0.8,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.1,
    "grayscale_probability": 0.2,
    "blur_probability": 0.5,
}
# Every operation, for the test that compares placements; two that are quick to trace for the others.
ALL_OPERATIONS = AugmentSpec(size=8, **NORMALISE, **COLORS)
FEW = {"flip_probability": 0.5, "grayscale_probability": 0.3}
INVARIANCE = AugmentSpec(size=8, **NORMALISE, **FEW)
CROP = AugmentSpec(size=6, **NORMALISE, **FEW)
CENTER = AugmentSpec(size=7, crop="center", center_fraction=0.875, **NORMALISE, **FEW)
SEED, B = 5, 64
PLAN = ViewPlan(INVARIANCE, CROP, SEED, batch_size=B, equivariance_batch_size=32, num_groups=4)


def batches(examples, placement, *, steps=(0, 2), plan=PLAN, **arguments):
    start, stop = steps
    return data.host_batches(
        examples, plan, placement=placement, start_step=start, num_steps=stop, num_threads=2, **arguments
    )


@functools.partial(jax.jit, static_argnames="spec")
def apply(rows, images, spec):
    drawn = augment.sample(rows, spec, height=images.shape[1], width=images.shape[2])
    return augment.apply(drawn, images.astype(np.float32) / 255.0, spec)


@functools.partial(jax.jit, static_argnames="spec")
def apply_after_crop(rows, images, spec):
    drawn = augment.sample(rows, spec, height=spec.size, width=spec.size)
    return augment.apply_after_crop(drawn, images.astype(np.float32) / 255.0, spec)


def box(row, spec, height, width):
    drawn = augment.sample(row, spec, height=height, width=width)
    return [int(x) for x in (drawn.top, drawn.left, drawn.height, drawn.width)]


@pytest.fixture(scope="module")
def resident():
    return Examples(np.stack([np.asarray(smooth(12, 16, RNG)) for _ in range(100)]))


@pytest.fixture(scope="module")
def encoded():
    sizes = [(int(h), int(w)) for h, w in RNG.integers(10, 30, (70, 2))]
    return Examples(Encoded([encode(smooth(*size, RNG), "JPEG" if i % 2 else "PNG") for i, size in enumerate(sizes)]))


@pytest.mark.slow
@pytest.mark.parametrize("draws", ["group", "batch"])
def test_host_gives_the_pixels_of_the_device(resident, draws):
    plan = PLAN._replace(draws=draws, invariance=ALL_OPERATIONS if draws == "group" else INVARIANCE)
    made = list(batches(resident, "host", steps=(1, 4), plan=plan))
    assert len(made) == 3
    for step, batch in enumerate(made, start=1):
        images = resident.images[batch_indices(SEED, step, num_examples=100, batch_size=B)]
        rows = jax.jit(plan.uniforms)(step)
        invariance = [apply(u, images, plan.invariance) for u in rows.invariance]
        equivariance = [apply(u, images[:32], CROP) for u in rows.equivariance]
        assert batch["invariance_views"].dtype == batch["equivariance_views"].dtype == np.float32
        np.testing.assert_allclose(batch["invariance_views"], invariance, atol=1e-5)
        np.testing.assert_allclose(batch["equivariance_views"], equivariance, atol=1e-5)


@pytest.mark.slow
def test_host_cuts_the_drawn_boxes_out_of_encoded_images(encoded):
    plan = PLAN._replace(equivariance=CENTER)
    for step, batch in enumerate(batches(encoded, "host", plan=plan)):
        indices = batch_indices(SEED, step, num_examples=70, batch_size=B)
        rows = jax.jit(plan.uniforms)(step)
        for i in (0, 5, 32, B - 1):
            image = Image.open(io.BytesIO(encoded.images.read(indices[i]))).convert("RGB")
            for view, row in enumerate(rows.invariance[:, i]):
                top, left, height, width = box(row, INVARIANCE, image.height, image.width)
                cut = image.crop((left, top, left + width, top + height)).resize((8, 8), Image.Resampling.BILINEAR)
                expected = apply_after_crop(row[None], np.asarray(cut)[None], INVARIANCE)[0]
                np.testing.assert_allclose(batch["invariance_views"][view, i], expected, atol=1e-5)
            if i < 32:
                # 8 pixels, 7 / 0.875: the central crop of it cuts whole ones.
                side = min(image.size)
                left, top = (image.width - side) // 2, (image.height - side) // 2
                square = image.crop((left, top, left + side, top + side)).resize((8, 8), Image.Resampling.BILINEAR)
                for view, row in enumerate(rows.equivariance[:, i]):
                    expected = apply(row[None], np.asarray(square)[None], CENTER)[0]
                    np.testing.assert_allclose(batch["equivariance_views"][view, i], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["host", "decode"])
def test_starting_late_makes_the_same_batches(resident, placement):
    # Step 1 on is epoch 1: 100 // 64 batches an epoch.
    late = next(batches(resident, placement, steps=(2, 3)))
    for step, batch in enumerate(batches(resident, placement, steps=(0, 3))):
        same = [np.array_equal(batch[name], late[name]) for name in late]
        assert same == [step == 2] * len(late)


def test_processes_make_the_parts_of_the_batch(encoded):
    whole = next(batches(encoded, "decode"))
    parts = [next(batches(encoded, "decode", process_index=p, process_count=4)) for p in range(4)]
    for name in whole:
        axis = 1 if name == "boxes" else 0
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts], axis=axis), whole[name])


@pytest.mark.slow
def test_processes_make_the_parts_of_the_views(resident):
    whole = next(batches(resident, "host"))
    parts = [next(batches(resident, "host", process_index=p, process_count=2)) for p in range(2)]
    for name in ("invariance_views", "equivariance_views"):
        np.testing.assert_allclose(np.concatenate([part[name] for part in parts], axis=1), whole[name], atol=1e-6)


@pytest.mark.parametrize("placement", [pytest.param("host", marks=pytest.mark.slow), "decode"])
def test_without_equivariance_views(resident, placement):
    batch = next(batches(resident, placement, plan=PLAN._replace(equivariance_batch_size=0)))
    assert set(batch) == ({"invariance_views"} if placement == "host" else {"canvases", "boxes"})
    both = next(batches(resident, placement))
    for name in batch:
        np.testing.assert_allclose(batch[name], both[name], atol=1e-5)


def test_nothing_left_to_do(resident):
    assert list(batches(resident, "host", steps=(2, 2))) == []


def broken(encoded, indices, data=b"text"):
    files = list(encoded.images.files)
    for index in indices:
        files[index] = data
    return Examples(Encoded(files))


@pytest.mark.parametrize("placement", [pytest.param("host", marks=pytest.mark.slow), "decode"])
def test_a_broken_image_is_replaced_by_the_next(encoded, placement):
    truncated = encode(smooth(64, 64), "JPEG")[:-300]
    some = broken(broken(broken(encoded, [3, 69], truncated), [4], b""), [20], b"text")
    repaired = list(encoded.images.files)
    for index, replacement in ((3, 5), (4, 5), (20, 21), (69, 0)):
        repaired[index] = repaired[replacement]
    skipped = SkippedFiles()
    made = list(batches(some, placement, steps=(0, 3), skipped=skipped))
    for batch, expected in zip(made, batches(Examples(Encoded(repaired)), placement, steps=(0, 3)), strict=True):
        for name in expected:
            np.testing.assert_array_equal(batch[name], expected[name])
    assert skipped.reasons == {
        "file 20": "not an image",
        "file 3": "truncated or damaged",
        "file 4": "empty file",
        "file 69": "truncated or damaged",
    }


def test_nothing_but_broken_images(encoded):
    with pytest.raises(DataError, match=r"no image can be decoded: skipped 70 image files .*\(70 not an image\)"):
        next(batches(broken(encoded, range(70)), "decode"))


@pytest.mark.slow
def test_a_process_may_end_while_batches_are_being_made():
    code = """if True:
        import numpy as np
        from care_jax import data
        from care_jax.augment import AugmentSpec, ViewPlan
        spec = AugmentSpec(size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
        plan = ViewPlan(spec, spec, seed=0, batch_size=64, equivariance_batch_size=0, num_groups=1)
        batches = data.host_batches(
            data.Examples(np.zeros((64, 64, 64, 3), np.uint8)), plan, placement="decode", start_step=0,
            num_steps=10**6, num_threads=2)
        next(batches)
        raise SystemExit(7)
    """
    assert subprocess.run([sys.executable, "-c", code], timeout=100, check=False).returncode == 7


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"placement": "device"}, "'device'"),
        ({"batch_size": 101}, "batch_size 101 .* 100"),
        ({"equivariance_batch_size": 65}, r"\[0, 64\]; got 65"),
        ({"process_count": 3}, "process 0 of 3 and batch size 64"),
        ({"process_index": 2, "process_count": 2}, "process 2 of 2"),
        ({"process_count": 64}, "batch size 32"),
        ({"num_groups": 5}, "5 and 32"),
        ({"draws": "image"}, "'image'"),
    ],
)
def test_errors_come_before_any_work(resident, changes, told):
    arguments = {"placement": "host"} | changes
    planned = {name: arguments.pop(name) for name in changes.keys() & set(ViewPlan._fields)}
    with pytest.raises(ValueError, match=told):
        batches(resident, arguments.pop("placement"), plan=PLAN._replace(**planned), **arguments)


@pytest.mark.parametrize(
    ("rows", "equivariance_rows"), [(256, 256), (256, 0), (512, 128), (96, 36), (8, 4), (7, 3), (97, 0)]
)
def test_parts_divide_both_kinds_of_rows(rows, equivariance_rows):
    parts = pipeline._number_of_parts(rows, equivariance_rows)
    assert rows % parts == equivariance_rows % parts == 0
    assert parts == 1 or rows // parts >= 32
    assert (rows, equivariance_rows) != (256, 256) or parts == math.ceil(256 / 32)
