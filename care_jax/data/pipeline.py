"""Batches made on the host by `tf.data`, while the device works on the ones before.

Three placements need it. "decode": the host reads and decodes. "split": it crops too. "host": it does
everything. (A fourth, "device", needs no pipeline: see `care_jax.data.device`.) Whatever the placement, the batch of
step t is a function of (seed, t): a pipeline starts at any step at no cost.
"""

import functools
import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import jax
import numpy as np

from care_jax import augment
from care_jax.augment import Augmentation, AugmentSpec, ViewUniforms
from care_jax.data.assembly import Assembly, Plan
from care_jax.data.examples import Examples, SkippedFiles, batch_indices
from care_jax.data.reader import Reader, available_threads, iterate, local_rows, on_host
from care_jax.data.tfds import import_tensorflow

HOST_PLACEMENTS = ("host", "split", "decode")
# Images augmented by one call: enough to hide what TensorFlow spends a call, few enough to bound memory.
_IMAGES_A_CALL = 32
_VIEWS_FIRST = (1, 0, 2, 3, 4)  # [b, 2, s, s, 3] -> [2, b, s, s, 3]


def host_batches(
    examples: Examples,
    *,
    placement: str,
    invariance_spec: AugmentSpec,
    equivariance_spec: AugmentSpec,
    seed: int,
    start_step: int,
    num_steps: int,
    batch_size: int,
    equivariance_batch_size: int,
    num_groups: int,
    draws: str,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int | None = None,
    skipped: SkippedFiles | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """The batches of steps start_step, ..., num_steps - 1, in order, prefetched.

    With b and e the batch sizes of this process (the global ones divided by process_count), s the side of the
    invariance spec, and each image's own size h, w:

    * "host": {"views": float32 [2, b, s, s, 3], "shared_views": float32 [2, e, s', s', 3]}, normalised: for resident
      images the same pixels (1e-5) as augmenting on the device gives.
    * "split": {"crops": uint8 [2, b, s, s, 3], "centers": uint8 [e, c, c, 3]}: both random crops of each image, and the
      e images of the equivariance term without any. Bytes, because they are a quarter of what floats would be to send;
      the price is rounding the resized pixel to a 255th, as every pipeline built on Pillow does.
    * "decode": {"canvases": uint8 [b, C, C, 3], "boxes": float32 [2, b, 4], "centers"}: what both crops of each
      image need of it, and their boxes (top, left, height, width) in there, to be cut and resized by the device, which
      takes the host half the time. C is `canvas_side(s)`; where that is too small the two finished crops lie in the
      canvas. Canvases of resident images have their size.

    The shared images are the first e of the batch. A box drawn once for a group means the same for all its images
    only if they have one size: images of resident examples have (c is theirs); encoded ones are brought to a central
    square whose side is such that a central crop of the equivariance spec cuts pixels and does not resize.

    An encoded image that cannot be read or decoded is replaced by the next in index order that can, and counted.

    Args:
      examples: resident or encoded; labels are not used.
      placement: "host", "split" or "decode".
      invariance_spec: of the two views an image.
      equivariance_spec: of the two views a group.
      seed: of the run.
      start_step: the first step to make, >= 0.
      num_steps: of the whole run: the last step made is num_steps - 1.
      batch_size: over all processes.
      equivariance_batch_size: over all processes, at most batch_size; 0 leaves "shared_views" and "centers" out.
      num_groups: groups the shared images are cut into.
      draws: "group" or "batch", see `augment.draw_view_uniforms`.
      process_index: this process makes rows [p b / P, (p + 1) b / P) of each array.
      process_count: P, divides both batch sizes.
      num_threads: at most this many decode and augment at once (None: one a processor this process may use).
      skipped: where unreadable images are counted.

    Raises:
      ValueError: an argument is out of range.
      DataError: no image can be decoded, or a file has changed since the data set was loaded.
    """
    if placement not in HOST_PLACEMENTS:
        raise ValueError(f"placement must be one of {HOST_PLACEMENTS} for batches made on the host; got {placement!r}")
    if not 0 <= equivariance_batch_size <= batch_size:
        raise ValueError(f"equivariance_batch_size must be in [0, {batch_size}]; got {equivariance_batch_size}")
    plan = Plan(
        reader=Reader(examples, skipped),
        invariance=invariance_spec,
        equivariance=equivariance_spec,
        indices=functools.partial(batch_indices, seed, num_examples=len(examples), batch_size=batch_size),
        uniforms=_uniform_function(seed, batch_size, equivariance_batch_size, num_groups, draws),
        steps=range(start_step, num_steps),
        equivariance_batch_size=equivariance_batch_size,
        rows=local_rows(batch_size, process_index, process_count),
        shared_rows=local_rows(equivariance_batch_size, process_index, process_count),
        num_threads=num_threads or available_threads(),
        crops=placement != "decode",
    )
    plan.indices(start_step), plan.uniforms(start_step)  # raise here, not in a thread, what the arguments have wrong
    if not plan.steps:
        return iter(())
    tf = import_tensorflow()
    if placement == "host":
        return iterate(tf, _augmented(tf, plan), plan.num_threads, plan.reader)
    assembly = Assembly(plan)
    return iterate(tf, assembly.dataset(tf), plan.num_threads, plan.reader, assembly.take)


def _augmented(tf: ModuleType, plan: Plan) -> Any:
    """A `tf.data.Dataset` of {"views": float32 [2, b, s, s, 3], "shared_views": float32 [2, e, s', s', 3]}."""
    images = plan.reader.examples.images
    resident = isinstance(images, np.ndarray)
    height, width = images.shape[1:3] if isinstance(images, np.ndarray) else (plan.invariance.size,) * 2
    center_height, center_width, _ = plan.center_shape

    draw = _draw_function(plan.invariance, plan.equivariance, height, width, center_height, center_width)

    def draws_of_steps() -> Iterator[dict[str, Augmentation]]:
        for step in plan.steps:
            drawn = plan.uniforms(step)
            draws = draw(
                np.stack([drawn.first[plan.rows], drawn.second[plan.rows]], axis=1),
                np.stack([drawn.shared_first[plan.shared_rows], drawn.shared_second[plan.shared_rows]], axis=1),
            )
            yield draws if plan.shared_rows else {"own": draws["own"]}

    def pixels_of_steps() -> Iterator[dict[str, np.ndarray]]:
        assert isinstance(images, np.ndarray)
        for step in plan.steps:
            indices = plan.indices(step)
            centers = {"centers": images[indices[plan.shared_rows]]} if plan.shared_rows else {}
            yield {"images": images[indices[plan.rows]]} | centers

    @tf.autograph.experimental.do_not_convert
    def views(pixels: dict[str, Any], draws: dict[str, Any]) -> dict[str, Any]:
        """Of one part of a step: [n, 2, ...] in, [n, 2, s, s, 3] out, both views of all images in one call."""

        def both(apply: Callable[..., Any], drawn: Augmentation, images: Any, spec: AugmentSpec) -> Any:
            made = apply(tf.nest.map_structure(_merge, drawn), _merge(images), spec)
            return tf.reshape(made, (-1, 2, spec.size, spec.size, 3))

        def twice(images: Any) -> Any:
            return tf.stack([images, images], axis=1)

        if resident:
            made = {"views": both(augment.apply, draws["own"], twice(pixels["images"]), plan.invariance)}
        else:
            made = {"views": both(augment.apply_after_crop, draws["own"], pixels["crops"], plan.invariance)}
        if "shared" in draws:
            made["shared_views"] = both(augment.apply, draws["shared"], twice(pixels["centers"]), plan.equivariance)
        return made

    def _merge(x: Any) -> Any:
        """[n, m, ...] -> [n m, ...]."""
        return tf.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))

    parts = _number_of_parts(len(plan.rows), len(plan.shared_rows))

    def cut(x: Any) -> Any:
        return tf.reshape(x, (parts, x.shape[0] // parts, *x.shape[1:]))

    pixels = _from_generator(tf, pixels_of_steps) if resident else _crops_and_centers(tf, plan)
    dataset = tf.data.Dataset.zip((pixels, _from_generator(tf, draws_of_steps)))
    dataset = dataset.map(lambda *step: tf.nest.map_structure(cut, step)).unbatch()
    dataset = dataset.map(views, num_parallel_calls=plan.num_threads).batch(parts, drop_remainder=True)
    return dataset.map(lambda batch: {name: tf.transpose(_merge(x), _VIEWS_FIRST) for name, x in batch.items()})


def _crops_and_centers(tf: ModuleType, plan: Plan) -> Any:
    """A `tf.data.Dataset` of {"crops": uint8 [b, 2, s, s, 3], "centers": uint8 [e, c, c, 3]}."""
    assembly = Assembly(plan)
    size = plan.invariance.size
    shapes: dict[str, tuple[int, ...]] = {"crops": (len(plan.rows), 2, size, size, 3)}
    if plan.shared_rows:
        shapes["centers"] = (len(plan.shared_rows), *plan.center_shape)

    def taken(step: np.int64) -> list[np.ndarray]:
        arrays = assembly.take(int(step))
        arrays["crops"] = np.ascontiguousarray(arrays["crops"].swapaxes(0, 1))
        return [arrays[name] for name in shapes]

    def arrays(step: Any) -> dict[str, Any]:
        made = tf.numpy_function(taken, [step], [tf.uint8] * len(shapes))
        return {name: tf.ensure_shape(x, shape) for (name, shape), x in zip(shapes.items(), made, strict=True)}

    return assembly.dataset(tf).map(arrays)


# Cached, because another pipeline of the same shapes (a resumed run, a benchmark) need not compile them again.
@functools.cache
def _uniform_function(
    seed: int, batch_size: int, equivariance_batch_size: int, num_groups: int, draws: str
) -> Callable[[int], ViewUniforms]:
    return on_host(
        functools.partial(
            augment.draw_view_uniforms,
            seed,
            batch_size=batch_size,
            equivariance_batch_size=equivariance_batch_size,
            num_groups=num_groups,
            draws=draws,
        )
    )


@functools.cache
def _draw_function(
    invariance: AugmentSpec, equivariance: AugmentSpec, height: int, width: int, center_height: int, center_width: int
) -> Callable[..., dict[str, Augmentation]]:
    """Draws by JAX, as on the device: a box must not depend on how some other library rounds a square root."""

    @on_host
    def draw(uniforms: jax.Array, shared_uniforms: jax.Array) -> dict[str, Augmentation]:
        return {
            "own": augment.sample(uniforms, invariance, height=height, width=width),
            "shared": augment.sample(shared_uniforms, equivariance, height=center_height, width=center_width),
        }

    return draw


def _number_of_parts(rows: int, shared_rows: int) -> int:
    """Equal parts that a step is cut into, each with its share of both kinds of rows."""
    common = math.gcd(rows, shared_rows)
    return max(n for n in range(1, common + 1) if common % n == 0 and (n == 1 or rows // n >= _IMAGES_A_CALL))


def _from_generator(tf: ModuleType, function: Callable[[], Iterator[Any]]) -> Any:
    """`tf.data.Dataset.from_generator`, with the signature read off the first element."""
    signature = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), next(function()))
    return tf.data.Dataset.from_generator(function, output_signature=signature)
