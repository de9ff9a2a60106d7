"""Batches made on the host: the same pixels as on the device, at any step, on any number of processes."""

import functools
import io
import math
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from care_jax import augment, data
from care_jax.augment import AugmentSpec
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
SHARED_CROP = AugmentSpec(size=6, **NORMALISE, **FEW)
SHARED_CENTER = AugmentSpec(size=7, crop="center", center_fraction=0.875, **NORMALISE, **FEW)
SEED, B, E, G = 5, 64, 32, 4


def batches(examples, placement, *, steps=(0, 2), shared=SHARED_CROP, **changes):
    arguments = {
        "placement": placement,
        "invariance_spec": INVARIANCE,
        "equivariance_spec": shared,
        "seed": SEED,
        "start_step": steps[0],
        "num_steps": steps[1],
        "batch_size": B,
        "equivariance_batch_size": E,
        "num_groups": G,
        "draws": "group",
        "num_threads": 2,
    }
    return data.host_batches(examples, **(arguments | changes))


@functools.partial(jax.jit, static_argnames=("draws",))
def uniforms(step, draws="group"):
    return augment.draw_view_uniforms(SEED, step, batch_size=B, equivariance_batch_size=E, num_groups=G, draws=draws)


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


def smooth(height, width):
    coarse = Image.fromarray(RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def resident():
    return Examples(np.stack([np.asarray(smooth(12, 16)) for _ in range(100)]))


class Encoded:
    """Files in memory."""

    def __init__(self, files):
        self.files = files

    def __len__(self):
        return len(self.files)

    def read(self, index):
        return self.files[index]

    def name(self, index):
        return f"file {index}"


def encode(image, kind):
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=90)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def encoded():
    sizes = [(int(h), int(w)) for h, w in RNG.integers(10, 30, (70, 2))]
    return Examples(Encoded([encode(smooth(*size), "JPEG" if i % 2 else "PNG") for i, size in enumerate(sizes)]))


@pytest.mark.slow
@pytest.mark.parametrize("draws", ["group", "batch"])
def test_host_gives_the_pixels_of_the_device(resident, draws):
    invariance = ALL_OPERATIONS if draws == "group" else INVARIANCE
    made = list(batches(resident, "host", steps=(1, 4), draws=draws, invariance_spec=invariance))
    assert len(made) == 3
    for step, batch in enumerate(made, start=1):
        images = resident.images[batch_indices(SEED, step, num_examples=100, batch_size=B)]
        rows = uniforms(step, draws)
        own = [apply(u, images, invariance) for u in (rows.first, rows.second)]
        shared = [apply(u, images[:E], SHARED_CROP) for u in (rows.shared_first, rows.shared_second)]
        assert batch["views"].dtype == batch["shared_views"].dtype == np.float32
        np.testing.assert_allclose(batch["views"], own, atol=1e-5)
        np.testing.assert_allclose(batch["shared_views"], shared, atol=1e-5)


@pytest.mark.slow
def test_split_cuts_the_drawn_boxes(encoded):
    for step, batch in enumerate(batches(encoded, "split", shared=SHARED_CENTER)):
        assert batch["crops"].dtype == batch["centers"].dtype == np.uint8
        assert batch["crops"].shape == (2, B, 8, 8, 3)
        assert batch["centers"].shape == (E, 8, 8, 3)  # 7 / 0.875: the device's central crop of it cuts whole pixels
        indices = batch_indices(SEED, step, num_examples=70, batch_size=B)
        rows = uniforms(step)
        for i in (0, 5, E, B - 1):
            image = Image.open(io.BytesIO(encoded.images.read(indices[i]))).convert("RGB")
            for view, row in enumerate((rows.first[i], rows.second[i])):
                top, left, height, width = box(row, INVARIANCE, image.height, image.width)
                cut = image.crop((left, top, left + width, top + height)).resize((8, 8), Image.Resampling.BILINEAR)
                np.testing.assert_array_equal(batch["crops"][view, i], np.asarray(cut))
            if i < E:
                side = min(image.size)
                left, top = (image.width - side) // 2, (image.height - side) // 2
                square = image.crop((left, top, left + side, top + side)).resize((8, 8), Image.Resampling.BILINEAR)
                np.testing.assert_array_equal(batch["centers"][i], np.asarray(square))


def test_centers_for_a_shared_random_crop_have_its_size(encoded):
    assert next(batches(encoded, "split", shared=SHARED_CROP))["centers"].shape == (E, 6, 6, 3)


def test_resident_centers_are_the_images_themselves(resident):
    batch = next(batches(resident, "split", steps=(3, 4)))
    indices = batch_indices(SEED, 3, num_examples=100, batch_size=B)
    np.testing.assert_array_equal(batch["centers"], resident.images[indices[:E]])
    row = uniforms(3).second[7]
    top, left, height, width = box(row, INVARIANCE, 12, 16)
    cut = Image.fromarray(resident.images[indices[7]][top : top + height, left : left + width])
    np.testing.assert_array_equal(batch["crops"][1, 7], np.asarray(cut.resize((8, 8), Image.Resampling.BILINEAR)))


def test_split_then_device_is_host(encoded):
    for step, (split, host) in enumerate(
        zip(
            batches(encoded, "split", shared=SHARED_CENTER), batches(encoded, "host", shared=SHARED_CENTER), strict=True
        )
    ):
        rows = uniforms(step)
        own = [
            apply_after_crop(u, x, INVARIANCE) for u, x in zip((rows.first, rows.second), split["crops"], strict=True)
        ]
        shared = [apply(u, split["centers"], SHARED_CENTER) for u in (rows.shared_first, rows.shared_second)]
        np.testing.assert_allclose(host["views"], own, atol=1e-5)
        np.testing.assert_allclose(host["shared_views"], shared, atol=1e-5)


@pytest.mark.parametrize("placement", ["host", "split", "decode"])
def test_starting_late_makes_the_same_batches(resident, placement):
    # Step 1 on is epoch 1: 100 // 64 batches an epoch.
    late = next(batches(resident, placement, steps=(2, 3)))
    for step, batch in enumerate(batches(resident, placement, steps=(0, 3))):
        same = [np.array_equal(batch[name], late[name]) for name in late]
        assert same == [step == 2] * len(late)


@pytest.mark.parametrize("placement", ["split", "decode"])
def test_processes_make_the_parts_of_the_batch(encoded, placement):
    whole = next(batches(encoded, placement))
    parts = [next(batches(encoded, placement, process_index=p, process_count=4)) for p in range(4)]
    for name in whole:
        axis = 1 if name in ("crops", "boxes") else 0
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts], axis=axis), whole[name])


def test_processes_make_the_parts_of_the_views(resident):
    whole = next(batches(resident, "host"))
    parts = [next(batches(resident, "host", process_index=p, process_count=2)) for p in range(2)]
    for name in ("views", "shared_views"):
        np.testing.assert_allclose(np.concatenate([part[name] for part in parts], axis=1), whole[name], atol=1e-6)


@pytest.mark.parametrize("placement", ["host", "split"])
def test_without_shared_images(resident, placement):
    batch = next(batches(resident, placement, equivariance_batch_size=0))
    assert set(batch) == {"views" if placement == "host" else "crops"}
    both = next(batches(resident, placement))
    name = next(iter(batch))
    np.testing.assert_allclose(batch[name], both[name], atol=1e-5)


def test_nothing_left_to_do(resident):
    assert list(batches(resident, "host", steps=(2, 2))) == []


def broken(encoded, indices, data=b"text"):
    files = list(encoded.images.files)
    for index in indices:
        files[index] = data
    return Examples(Encoded(files))


@pytest.mark.parametrize("placement", ["host", "split", "decode"])
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
        next(batches(broken(encoded, range(70)), "split"))


@pytest.mark.slow
def test_a_process_may_end_while_batches_are_being_made():
    code = """if True:
        import numpy as np
        from care_jax import data
        from care_jax.augment import AugmentSpec
        spec = AugmentSpec(size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
        batches = data.host_batches(
            data.Examples(np.zeros((64, 64, 64, 3), np.uint8)), placement="split", invariance_spec=spec,
            equivariance_spec=spec, seed=0, start_step=0, num_steps=10**6, batch_size=64, equivariance_batch_size=0,
            num_groups=1, draws="group", num_threads=2)
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
    with pytest.raises(ValueError, match=told):
        batches(resident, arguments.pop("placement"), **arguments)


@pytest.mark.parametrize(("rows", "shared"), [(256, 256), (256, 0), (512, 128), (96, 36), (8, 4), (7, 3), (97, 0)])
def test_parts_divide_both_kinds_of_rows(rows, shared):
    parts = pipeline._number_of_parts(rows, shared)
    assert rows % parts == shared % parts == 0
    assert parts == 1 or rows // parts >= 32
    assert (rows, shared) != (256, 256) or parts == math.ceil(256 / 32)
