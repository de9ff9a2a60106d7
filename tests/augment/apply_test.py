"""An augmentation gives the same pixels alone or shared, eager or compiled, in JAX or tf.data, on 1 or 8 devices."""

import dataclasses
import doctest
import importlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from care_jax import augment
from care_jax.augment import NUM_UNIFORMS, Augmentation, AugmentSpec, color, geometry

OUTPUT = {"size": 12, "mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}
EVERYTHING = AugmentSpec(
    **OUTPUT,
    flip_probability=0.5,
    jitter_probability=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    grayscale_probability=0.2,
    blur_probability=0.5,
    blur_kernel_size=5,
    solarize_probability=0.3,
    rotation_degrees=20.0,
    translation=0.1,
)
NOTHING = AugmentSpec(**OUTPUT)
PLAIN = dataclasses.replace(NOTHING, mean=(0, 0, 0), std=(1, 1, 1))

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (16, 16, 14, 3), dtype=np.uint8)
UNIFORMS = RANDOM.random((16, NUM_UNIFORMS), np.float32)

apply = jax.jit(augment.apply, static_argnums=2)
apply_after_crop = jax.jit(augment.apply_after_crop, static_argnums=2)
crop = jax.jit(augment.crop, static_argnums=2)
sample = jax.jit(augment.sample, static_argnums=1, static_argnames=("height", "width"))


def augmented(uniforms, images, spec: AugmentSpec):
    drawn = augment.sample(uniforms, spec, height=images.shape[-3], width=images.shape[-2])
    return augment.apply(drawn, images, spec)


@pytest.fixture(scope="module")
def drawn() -> Augmentation:
    return jax.tree.map(np.asarray, sample(UNIFORMS, EVERYTHING, height=16, width=14))


@pytest.fixture(scope="module")
def views(drawn: Augmentation) -> np.ndarray:
    return np.asarray(apply(drawn, IMAGES, EVERYTHING))


def row(augmentation: Augmentation, i: int) -> Augmentation:
    return jax.tree.map(lambda x: x[i], augmentation)


@pytest.mark.slow
def test_the_operations_in_their_order(drawn: Augmentation, views: np.ndarray, run_jax):
    """The documented pipeline, one public operation after the other on one image at a time."""
    for i in range(16):
        a = row(drawn, i)
        image = run_jax(geometry.resized_crop, IMAGES[i] / 255, a.top, a.left, a.height, a.width, size=12)
        image = image[:, ::-1] if a.flip else image
        image = run_jax(geometry.rotate_and_translate, image, a.angle, a.shift_y, a.shift_x)
        image = run_jax(color.color_jitter, image, a.order, a.brightness, a.contrast, a.saturation, a.hue)
        image = run_jax(color.to_grayscale, image) if a.grayscale else image
        image = run_jax(geometry.gaussian_blur, image, a.blur_sigma, kernel_size=5)
        image = np.where(image >= 0.5, 1 - image, image) if a.solarize else image
        expected = (image - np.array(OUTPUT["mean"])) / np.array(OUTPUT["std"])
        np.testing.assert_allclose(views[i], expected, rtol=0, atol=2e-5)
    for flag in (drawn.flip, drawn.jittered, drawn.grayscale, drawn.solarize, drawn.blur_sigma > 0):
        assert 0 < flag.mean() < 1  # both branches were compared


@pytest.mark.slow
def test_apply_is_crop_then_the_rest(drawn: Augmentation, views: np.ndarray):
    cropped = crop(drawn, IMAGES, EVERYTHING)
    assert cropped.shape == (16, 12, 12, 3)
    assert cropped.min() >= 0 and cropped.max() <= 1 + 1e-6
    np.testing.assert_allclose(apply_after_crop(drawn, cropped, EVERYTHING), views, rtol=0, atol=2e-5)


@pytest.mark.slow
def test_eager_is_jit(drawn: Augmentation, views: np.ndarray):
    np.testing.assert_allclose(augment.apply(drawn, IMAGES, EVERYTHING), views, rtol=0, atol=2e-5)


@pytest.mark.slow
def test_rows_can_be_mapped_over(drawn: Augmentation, views: np.ndarray):
    nested = jax.tree.map(lambda x: x.reshape(4, 4, *x.shape[1:]), drawn)
    images = IMAGES.reshape(4, 4, 16, 14, 3)
    mapped = jax.jit(jax.vmap(lambda a, x: augment.apply(a, x, EVERYTHING)))
    np.testing.assert_allclose(mapped(nested, images), views.reshape(4, 4, 12, 12, 3), rtol=0, atol=2e-5)


@pytest.mark.slow
def test_one_augmentation_shared_is_each_image_alone(drawn: Augmentation):
    for i in (1, 2):
        shared = apply(row(drawn, i), IMAGES, EVERYTHING)
        repeated = jax.tree.map(lambda x: x[None].repeat(16, axis=0), row(drawn, i))
        np.testing.assert_allclose(shared, apply(repeated, IMAGES, EVERYTHING), rtol=0, atol=2e-5)


def test_a_shared_augmentation_makes_its_weights_once(drawn: Augmentation):
    def per_image_matrices(augmentation: Augmentation) -> int:
        text = str(jax.make_jaxpr(lambda a: augment.apply(a, IMAGES, EVERYTHING))(augmentation))
        return sum(text.count(f"f32[16,{shape}]") for shape in ("12,16", "12,14", "12,12"))

    assert per_image_matrices(row(drawn, 0)) < per_image_matrices(drawn)
    assert "f32[16,12,16]" not in str(jax.make_jaxpr(lambda a: augment.crop(a, IMAGES, EVERYTHING))(row(drawn, 0)))


@pytest.mark.slow
def test_share_gives_a_groups_row_to_each_of_its_images(drawn: Augmentation, views: np.ndarray):
    groups = jax.tree.map(lambda x: x[:4], drawn)
    shared = augment.share(groups, 4)
    assert type(shared) is Augmentation
    for name, x in shared._asdict().items():
        np.testing.assert_array_equal(x, getattr(drawn, name)[np.arange(16) // 4], err_msg=name)
    result = apply(shared, IMAGES, EVERYTHING)
    np.testing.assert_allclose(result[0], views[0], rtol=0, atol=2e-5)
    np.testing.assert_allclose(result[4:8], apply(row(groups, 1), IMAGES, EVERYTHING)[4:8], rtol=0, atol=2e-5)


def test_share_keeps_the_type_of_what_was_drawn_for_clouds():
    spec = augment.CloudSpec(rotation=True, scaling=0.3, jitter=0.05, dropping=0.3)
    drawn = augment.sample_cloud(RANDOM.random((3, 8), np.float32), spec)
    shared = augment.share(drawn, 2)
    assert type(shared) is augment.CloudAugmentation
    for name, x in shared._asdict().items():
        np.testing.assert_array_equal(x, np.asarray(getattr(drawn, name))[np.arange(6) // 2], err_msg=name)


@pytest.mark.slow
def test_eight_devices_give_the_same(drawn: Augmentation, views: np.ndarray):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    by_row = NamedSharding(mesh, PartitionSpec("data"))
    sharded = jax.device_put((drawn, IMAGES), by_row)
    compiled = apply.lower(*sharded, EVERYTHING).compile()
    result = compiled(*sharded)
    assert len(result.sharding.device_set) == 8
    np.testing.assert_allclose(result, views, rtol=0, atol=2e-5)
    for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert collective not in compiled.as_text()  # every image stays where it is


def test_identity_only_crops_and_normalises():
    evaluation = augment.identity(EVERYTHING, height=16, width=14)
    result = apply(evaluation, IMAGES, dataclasses.replace(NOTHING, size=14))
    expected = (IMAGES[:, 1:15] / 255 - np.array(OUTPUT["mean"])) / np.array(OUTPUT["std"])
    np.testing.assert_allclose(result, expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(
        apply(evaluation, IMAGES, EVERYTHING), apply(evaluation, IMAGES, NOTHING), rtol=0, atol=2e-5
    )


def test_bytes_and_floats_give_the_same(drawn: Augmentation):
    floats = (IMAGES / 255).astype(np.float32)
    for function in (apply, crop, apply_after_crop):
        result = function(drawn, IMAGES[:, :12, :12], PLAIN)
        np.testing.assert_allclose(result, function(drawn, floats[:, :12, :12], PLAIN), rtol=0, atol=1e-6)


def test_what_the_spec_leaves_off_is_not_computed(drawn: Augmentation):
    cropped = crop(drawn, IMAGES, PLAIN)
    np.testing.assert_array_equal(apply(drawn, IMAGES, PLAIN), cropped)

    def operations(spec: AugmentSpec) -> set[str]:
        jaxpr = jax.make_jaxpr(lambda a: augment.apply(a, IMAGES, spec))(drawn)
        return {str(equation.primitive) for equation in jaxpr.jaxpr.eqns}

    assert not operations(NOTHING) & {"exp", "floor", "gather", "sin", "rev"}
    assert {"exp", "floor", "sin"} <= operations(EVERYTHING)


@pytest.mark.parametrize("shape", [(16, 14), (2, 16, 14), (2, 16, 14, 1)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]):
    evaluation = augment.identity(NOTHING, height=16, width=14)
    for function in (augment.apply, augment.crop, augment.apply_after_crop):
        with pytest.raises(ValueError, match=r"images must be \[..., h, w, 3\]; got shape \(") as error:
            function(evaluation, np.zeros(shape), NOTHING)
        assert str(shape) in str(error.value)


def test_a_group_that_does_not_share_is_told():
    spec = dataclasses.replace(EVERYTHING, rotation_degrees=0.0, translation=0.0)
    drawn = augment.identity(spec, height=16, width=14, leading_shape=(3,))
    said = r"one augmentation an image, or one for all; got 3 augmentations and 12 images: share\(augmentation, 4\)\?"
    for function in (augment.apply, augment.crop, augment.apply_after_crop):
        applied = partial(jax.eval_shape, partial(function, spec=spec))
        with pytest.raises(ValueError, match=said):
            applied(drawn, np.zeros((12, 16, 14, 3), np.float32))
        with pytest.raises(ValueError, match=r"got 3 augmentations and 11 images\b"):
            applied(drawn, np.zeros((11, 16, 14, 3), np.float32))
        with pytest.raises(ValueError, match=r"got augmentations \[3\] and images \[3, 2\]"):
            applied(drawn, np.zeros((3, 2, 16, 14, 3), np.float32))
        with pytest.raises(ValueError, match=r"images must be an array \[..., h, w, 3\]; got a list$"):
            function(drawn, [[[[0.0, 0.0, 0.0]]]], spec)
        for leading in ((3,), (2, 3), (), (1,)):  # one image, too, in several versions
            applied(drawn, np.zeros((*leading, 16, 14, 3), np.float32))
    with pytest.raises(ValueError, match=r"images must be an array; got a list$"):
        augment.unit_range([0.0])


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16, bool])
def test_images_of_another_type_are_refused(dtype: type):
    """Of these nobody knows whether they reach 255, 65,535 or 1."""
    evaluation = augment.identity(NOTHING, height=16, width=14)
    for function in (augment.apply, augment.crop, augment.apply_after_crop):
        with pytest.raises(ValueError, match=r"images must be uint8, or floats in \[0, 1\]; got (u?int|bool)"):
            function(evaluation, np.zeros((16, 14, 3), dtype), NOTHING)
    for kind in (np.float16, np.float64, jnp.bfloat16, np.uint8):
        augment.unit_range(np.zeros((2, 2, 3), kind))


@pytest.mark.slow
def test_tensorflow_gives_the_same_pixels_in_a_dataset_of_unknown_batch_size():
    import tensorflow as tf

    @tf.autograph.experimental.do_not_convert  # only to save the test's time: the next one is converted
    def pixels(uniforms, images):
        return augmented(uniforms, images, dataclasses.replace(EVERYTHING, mean=(0, 0, 0), std=(1, 1, 1)))

    dataset = tf.data.Dataset.from_tensor_slices((UNIFORMS, IMAGES)).batch(6)
    assert dataset.element_spec[0].shape[0] is None
    dataset = dataset.map(pixels)
    assert dataset.element_spec == tf.TensorSpec([None, 12, 12, 3], tf.float32)
    there = np.concatenate([batch.numpy() for batch in dataset])
    np.testing.assert_allclose(there, jax.jit(pixels)(UNIFORMS, IMAGES), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_tensorflow_gives_the_same_pixels_for_images_of_unknown_and_different_sizes():
    import tensorflow as tf

    sizes = [(16, 14), (9, 30), (40, 11)]
    images = [RANDOM.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]

    @tf.function(input_signature=[tf.TensorSpec([NUM_UNIFORMS], tf.float32), tf.TensorSpec([None, None, 3], tf.uint8)])
    def in_tensorflow(uniforms, image):
        shape = tf.shape(image)
        one_box = augment.sample(uniforms, PLAIN, height=shape[0], width=shape[1])
        return augment.apply(one_box, image, PLAIN)

    for uniforms, image in zip(UNIFORMS, images, strict=False):
        here = jax.jit(augmented, static_argnums=2)(uniforms, image, PLAIN)
        np.testing.assert_allclose(in_tensorflow(uniforms, image), here, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_tensorflow_shares_and_repeats_alike(drawn: Augmentation):
    import tensorflow as tf

    there = tf.nest.map_structure(tf.constant, drawn)
    for one, other in zip(augment.share(drawn, 3), augment.share(there, 3), strict=True):
        np.testing.assert_array_equal(one, other.numpy())
    shared = tf.function(lambda a, x: augment.apply(a, x, EVERYTHING))(row(there, 0), IMAGES)
    np.testing.assert_allclose(shared, apply(row(drawn, 0), IMAGES, EVERYTHING), rtol=0, atol=5e-5)
    # An augmentation of JAX arrays, drawn outside, is a constant inside tf.data.
    evaluation = augment.identity(NOTHING, height=16, width=14)
    result = tf.data.Dataset.from_tensors(IMAGES).map(lambda x: augment.apply(evaluation, x, NOTHING))
    np.testing.assert_allclose(next(iter(result)), apply(evaluation, IMAGES, NOTHING), rtol=0, atol=2e-5)


@pytest.mark.parametrize("module", ["", ".color", ".augmentation", ".views"])
def test_the_examples_in_the_docstrings_run(module: str):
    failed, attempted = doctest.testmod(importlib.import_module("care_jax.augment" + module))
    assert failed == 0 and attempted > 0
