"""Batches made on the host by `tf.data`, while the device works on the ones before.

Two placements need it. "split": the host reads, decodes and crops, the device does the rest. "host": the host does
everything. (A third, "device", needs no pipeline: see `care_jax.data.device`.) Whatever the placement, the batch of
step t is a function of (seed, t): a pipeline starts at any step at no cost.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import jax
import numpy as np

from care_jax import augment
from care_jax.augment import Augmentation, AugmentSpec, ViewUniforms
from care_jax.data.decode import SourceImage, central_square, reduction_for
from care_jax.data.examples import Examples, SkippedFiles, batch_indices
from care_jax.data.reader import Reader, available_threads, boxes, iterate, local_rows, on_host
from care_jax.data.sources import import_tensorflow

HOST_PLACEMENTS = ("host", "split")
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

    The shared images are the first e of the batch. A box drawn once for a group means the same for all its images
    only if they have one size: images of resident examples have (c is theirs); encoded ones are brought to a central
    square whose side is such that a central crop of the equivariance spec cuts pixels and does not resize.

    An encoded image that cannot be read or decoded is replaced by the next in index order that can, and counted.

    Args:
      examples: resident or encoded; labels are not used.
      placement: "host" or "split".
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
    plan = _Plan(
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
    )
    plan.indices(start_step), plan.uniforms(start_step)  # raise here, not in a thread, what the arguments have wrong
    if not plan.steps:
        return iter(())
    tf = import_tensorflow()
    if placement == "host":
        dataset = _augmented(tf, plan)
    else:
        dataset = _crops_and_centers(tf, plan)
        dataset = dataset.map(lambda batch: batch | {"crops": tf.transpose(batch["crops"], _VIEWS_FIRST)})
    return iterate(tf, dataset, plan.num_threads, plan.reader)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What this process makes of each step."""

    reader: Reader
    invariance: AugmentSpec
    equivariance: AugmentSpec
    indices: Callable[[int], np.ndarray]  # step -> [b], over all processes
    uniforms: Callable[[int], ViewUniforms]  # step -> rows over all processes
    steps: range
    equivariance_batch_size: int  # over all processes
    rows: range  # of the batch, this process's
    shared_rows: range
    num_threads: int

    @property
    def center_shape(self) -> tuple[int, ...]:
        """Of an image that the equivariance term starts from, [c, c, 3] or [h, w, 3]."""
        images = self.reader.examples.images
        if isinstance(images, np.ndarray):
            return images.shape[1:]
        spec = self.equivariance
        side = round(spec.size / spec.center_fraction) if spec.crop == "center" else spec.size
        return side, side, 3


def _crops_and_centers(tf: ModuleType, plan: _Plan) -> Any:
    """A `tf.data.Dataset` of {"crops": uint8 [b, 2, s, s, 3], "centers": uint8 [e, c, c, 3]}."""
    # Every image is decoded once, also where both terms want it.
    jobs = np.union1d(plan.rows, plan.shared_rows).astype(np.int64)
    is_cropped, is_shared = np.isin(jobs, plan.rows), np.isin(jobs, plan.shared_rows)
    images = plan.reader.examples.images
    size, center_shape = plan.invariance.size, plan.center_shape

    def jobs_of_steps() -> Iterator[tuple[np.ndarray, ...]]:
        for step in plan.steps:
            drawn = plan.uniforms(step)
            uniforms = np.stack([drawn.first[jobs], drawn.second[jobs]], axis=1)
            yield plan.indices(step)[jobs], uniforms, jobs < plan.equivariance_batch_size, is_cropped, is_shared

    def decode(
        index: int, uniforms: np.ndarray, has_center: bool, cropped: bool, shared: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        def outputs(image: SourceImage) -> list[np.ndarray]:
            wanted = boxes(uniforms, plan.invariance, image.height, image.width)
            sizes = [size, size]
            if has_center and not isinstance(images, np.ndarray):
                wanted.append(central_square(image.height, image.width))
                sizes.append(center_shape[0])
            # Decided by what all processes make of the image, so that the pixels don't depend on their number.
            reduction = reduction_for(wanted, sizes)
            mine = slice(0 if cropped else 2, 3 if shared else 2)
            return image.crops(wanted[mine], sizes[mine], reduction=reduction)

        made = plan.reader.from_first_readable(int(index), outputs)
        crops, center = np.zeros((2, size, size, 3), np.uint8), np.zeros(center_shape, np.uint8)
        if made is not None and shared:
            center = images[index] if isinstance(images, np.ndarray) else made.pop()
        if made is not None and cropped:
            crops = np.stack(made)
        return crops, center

    def decoded(*job: Any) -> dict[str, Any]:
        crops, center = tf.numpy_function(decode, job, [tf.uint8, tf.uint8])
        return {"crops": tf.ensure_shape(crops, (2, size, size, 3)), "centers": tf.ensure_shape(center, center_shape)}

    def select(batch: dict[str, Any]) -> dict[str, Any]:
        wanted = {"crops": is_cropped} | ({"centers": is_shared} if is_shared.any() else {})
        return {
            name: batch[name] if rows.all() else tf.gather(batch[name], np.flatnonzero(rows))
            for name, rows in wanted.items()
        }

    dataset = _from_generator(tf, jobs_of_steps).unbatch()
    dataset = dataset.map(decoded, num_parallel_calls=plan.num_threads)
    return dataset.batch(len(jobs), drop_remainder=True).map(select)


def _augmented(tf: ModuleType, plan: _Plan) -> Any:
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
