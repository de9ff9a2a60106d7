"""Batches made on the host by `tf.data`, while the device works on the ones before.

Two placements need it. "decode": the host reads and decodes. "host": it does everything. (A third, "device", needs no
pipeline: see `care_jax.data.device`.) Whatever the placement, the batch of step t is a function of (seed, t): a
pipeline starts at any step at no cost.
"""

import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from care_jax import augment
from care_jax.augment import Augmentation, AugmentSpec, ViewPlan, image_spec
from care_jax.data.assembly import Assembly, Share
from care_jax.data.examples import Examples
from care_jax.data.host_draws import step_augmentations
from care_jax.data.indices import local_rows
from care_jax.data.reader import Reader
from care_jax.data.skipped import SkippedFiles
from care_jax.data.tf_data import available_threads, import_tensorflow, iterate

HOST_PLACEMENTS = ("host", "decode")
# Images augmented by one call: enough to hide what TensorFlow spends a call, few enough to bound memory.
_IMAGES_A_CALL = 32
_VIEWS_FIRST = (1, 0, 2, 3, 4)  # [b, 2, s, s, 3] -> [2, b, s, s, 3]


def host_batches(
    examples: Examples,
    plan: ViewPlan,
    *,
    placement: str,
    start_step: int,
    num_steps: int,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int | None = None,
    skipped: SkippedFiles | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """The batches of steps start_step, ..., num_steps - 1, in order, prefetched.

    With b and e the batch sizes of this process (the plan's divided by process_count), s and s' the sides of the views:

    * "host": {"invariance_views": float32 [2, b, s, s, 3], "equivariance_views": float32 [2, e, s', s', 3]},
      normalised: for resident images the same pixels (1e-5) as augmenting on the device gives.
    * "decode": {"canvases": uint8 [b, C, C, 3], "boxes": float32 [2, b, 4], "equivariance_images": uint8
      [e, c, c, 3]}: what both crops of each image need of it, and their boxes (top, left, height, width) in there, to
      be cut and resized by the device. C is `canvas_side(s)`; where that is too small the two finished crops lie in the
      canvas. Canvases of resident images have their size.

    Equivariance views are made of the first e images of the batch. A box drawn once for a group means the same for all
    its images only if they have one size: resident images have (c is theirs); encoded ones are brought to a central
    square whose side is such that a central crop of the equivariance spec cuts pixels and does not resize.

    An encoded image that cannot be read or decoded is replaced by the next in index order that can, and counted.

    Args:
      examples: resident or encoded; labels are not used.
      plan: the views of a step, over all processes; with an equivariance_batch_size of 0 their arrays are left out.
      placement: "host" or "decode".
      start_step: the first step to make, >= 0.
      num_steps: of the whole run: the last step made is num_steps - 1.
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
    if not 0 <= plan.equivariance_batch_size <= plan.batch_size:
        raise ValueError(
            f"equivariance_batch_size must be in [0, {plan.batch_size}]; got {plan.equivariance_batch_size}"
        )
    share = Share(
        plan=plan,
        reader=Reader(examples, skipped),
        steps=range(start_step, num_steps),
        rows=local_rows(plan.batch_size, process_index, process_count),
        equivariance_rows=local_rows(plan.equivariance_batch_size, process_index, process_count),
        num_threads=num_threads or available_threads(),
    )
    share.indices(start_step), share.uniforms(start_step)  # raise here, not in a thread, what the arguments have wrong
    if not share.steps:
        return iter(())
    tf = import_tensorflow()
    if placement == "host":
        return iterate(tf, _augmented(tf, share), share.num_threads, share.reader.raise_failure)
    assembly = Assembly(share, crops=False)
    return iterate(tf, assembly.dataset(tf), share.num_threads, share.reader.raise_failure, assembly.take)


def _augmented(tf: ModuleType, share: Share) -> Any:
    """A `tf.data.Dataset` of what "host" makes."""
    plan, examples = share.plan, share.reader.examples
    size = examples.pixels.shape[1:3] if examples.resident else (image_spec(plan.invariance).size,) * 2
    draw = step_augmentations(plan, size, share.whole_shape[:2])

    def draws_of_steps() -> Iterator[dict[str, dict[str, np.ndarray]]]:
        for step in share.steps:
            uniforms = share.uniforms(step)
            draws = draw(
                uniforms.invariance[:, share.rows].swapaxes(0, 1),
                uniforms.equivariance[:, share.equivariance_rows].swapaxes(0, 1),
            )
            kinds = ("invariance", "equivariance") if share.equivariance_rows else ("invariance",)
            # Without what is empty, on which tf.data's unbatching crashes.
            yield {kind: {name: x for name, x in draws[kind]._asdict().items() if x.size} for kind in kinds}

    def pixels_of_steps() -> Iterator[dict[str, np.ndarray]]:
        for step in share.steps:
            indices = share.indices(step)
            pixels = {"images": examples.pixels[indices[share.rows]]}
            if share.equivariance_rows:
                pixels["equivariance_images"] = examples.pixels[indices[share.equivariance_rows]]
            yield pixels

    @tf.autograph.experimental.do_not_convert
    def views(pixels: dict[str, Any], draws: dict[str, Any]) -> dict[str, Any]:
        """Of one part of a step: [n, 2, ...] in, [n, 2, s, s, 3] out, both views of all images in one call."""

        def both(apply: Callable[..., Any], drawn: dict[str, Any], images: Any, spec: AugmentSpec) -> Any:
            images = _merge(images)
            fields = {"further": tf.zeros((images.shape[0], 0))} | {name: _merge(x) for name, x in drawn.items()}
            made = apply(Augmentation(**fields), images, spec)
            return tf.reshape(made, (-1, 2, spec.size, spec.size, 3))

        def twice(images: Any) -> Any:
            return tf.stack([images, images], axis=1)

        drawn, spec = draws["invariance"], image_spec(plan.invariance)
        if examples.resident:
            made = {"invariance_views": both(augment.apply, drawn, twice(pixels["images"]), spec)}
        else:
            made = {"invariance_views": both(augment.apply_after_crop, drawn, pixels["crops"], spec)}
        if "equivariance" in draws:
            images = twice(pixels["equivariance_images"])
            spec = image_spec(plan.equivariance)
            made["equivariance_views"] = both(augment.apply, draws["equivariance"], images, spec)
        return made

    def _merge(x: Any) -> Any:
        """[n, m, ...] -> [n m, ...]."""
        return tf.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))

    parts = _number_of_parts(len(share.rows), len(share.equivariance_rows))

    def cut(x: Any) -> Any:
        return tf.reshape(x, (parts, x.shape[0] // parts, *x.shape[1:]))

    pixels = _from_generator(tf, pixels_of_steps) if examples.resident else _crops(tf, share)
    dataset = tf.data.Dataset.zip((pixels, _from_generator(tf, draws_of_steps)))
    dataset = dataset.map(lambda *step: tf.nest.map_structure(cut, step)).unbatch()
    dataset = dataset.map(views, num_parallel_calls=share.num_threads).batch(parts, drop_remainder=True)
    return dataset.map(lambda batch: {name: tf.transpose(_merge(x), _VIEWS_FIRST) for name, x in batch.items()})


def _crops(tf: ModuleType, share: Share) -> Any:
    """A `tf.data.Dataset` of {"crops": uint8 [b, 2, s, s, 3], "equivariance_images": uint8 [e, c, c, 3]}.

    Bytes: the resized pixel is rounded to a 255th, as in every pipeline built on Pillow.
    """
    assembly = Assembly(share, crops=True)
    size = image_spec(share.plan.invariance).size
    shapes: dict[str, tuple[int, ...]] = {"crops": (len(share.rows), 2, size, size, 3)}
    if share.equivariance_rows:
        shapes["equivariance_images"] = (len(share.equivariance_rows), *share.whole_shape)

    def taken(step: np.int64) -> list[np.ndarray]:
        arrays = assembly.take(int(step))
        arrays["crops"] = np.ascontiguousarray(arrays["crops"].swapaxes(0, 1))
        return [arrays[name] for name in shapes]

    def arrays(step: Any) -> dict[str, Any]:
        made = tf.numpy_function(taken, [step], [tf.uint8] * len(shapes))
        return {name: tf.ensure_shape(x, shape) for (name, shape), x in zip(shapes.items(), made, strict=True)}

    return assembly.dataset(tf).map(arrays)


def _number_of_parts(rows: int, equivariance_rows: int) -> int:
    """Equal parts that a step is cut into, each with its share of both kinds of rows."""
    common = math.gcd(rows, equivariance_rows)
    return max(n for n in range(1, common + 1) if common % n == 0 and (n == 1 or rows // n >= _IMAGES_A_CALL))


def _from_generator(tf: ModuleType, function: Callable[[], Iterator[Any]]) -> Any:
    """`tf.data.Dataset.from_generator`, with the signature read off the first element."""
    signature = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), next(function()))
    return tf.data.Dataset.from_generator(function, output_signature=signature)
