"""From a data set to the batches of a run's steps on the devices, each process reading its own rows alone."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from care_jax import data
from care_jax.augment import ViewPlan, input_shape
from care_jax.data import DataSet
from care_jax.devices import sharding
from care_jax.train.placements import BATCH_AXES, Batch


def stacked_batches(
    dataset: DataSet,
    plan: ViewPlan,
    mesh: Mesh,
    *,
    placement: str,
    start_step: int,
    num_steps: int,
    counts: Iterable[int],
    num_threads: int | None = None,
    labelled: bool = False,
) -> Iterator[Batch]:
    """The batches of steps `start_step`, `start_step + 1`, ..., several at once.

    Args:
      dataset: its `pretrain` part.
      plan: sizes and draws.
      mesh: the devices.
      placement: where views are made; see `step.make_train_step` for what a batch holds.
      start_step, num_steps: the first step, and the end of the run.
      counts: how many batches each time.
      num_threads: of the host pipeline; None: one a processor.
      labelled: whether a batch has "labels" [b] too, the classes of its images. Another image that takes the place of
        an unreadable one has that one's.

    Returns:
      For each count, arrays of that many batches stacked along a new first axis; the resident images, which belong to
      no step, as they are.
    """
    resident = {}
    if placement == "device":
        resident["images"] = data.put_resident(dataset.pretrain, sharding.replicated(mesh))
    host_batches = _host_batches(dataset, plan, placement, start_step, num_steps, num_threads)
    if labelled:
        host_batches = _with_labels(host_batches, dataset, plan, start_step)
    for count in counts:
        batches = list(itertools.islice(host_batches, count))
        yield resident | {
            name: sharding.from_process(
                sharding.along_axis(mesh, 1 + BATCH_AXES[name]),
                # Most calls make one step: nothing is copied then.
                np.stack([batch[name] for batch in batches]) if count > 1 else np.asarray(batches[0][name])[None],
            )
            for name in batches[0]
        }


def abstract_batches(
    plan: ViewPlan,
    mesh: Mesh,
    *,
    placement: str,
    num_examples: int,
    image_shape: tuple[int, ...] | None = None,
    count: int = 1,
    labelled: bool = False,
) -> Batch:
    """What `stacked_batches` yields, without its numbers: shapes, types and shardings, to compile a step for.

    Args:
      plan: sizes and draws.
      mesh: the devices.
      placement: where views are made.
      num_examples: n, of the data set's `pretrain` part.
      image_shape: [h, w, 3] of its images where they are resident, which "device" asks for, or [L, 4] of its clouds;
        None: they are encoded.
      count: how many batches.
      labelled: whether a batch has "labels" too.
    """
    images, few = plan.batch_size, plan.equivariance_batch_size
    views, shared = (input_shape(spec) for spec in (plan.invariance, plan.equivariance))
    resident: dict[str, data.ResidentImages] = {}
    if placement == "device":
        assert image_shape is not None, "images on the device are resident"
        dtype: Any = jnp.float32 if len(image_shape) == 2 else jnp.uint8
        rows: Any = jax.ShapeDtypeStruct(
            (num_examples, math.prod(image_shape)), dtype, sharding=sharding.replicated(mesh)
        )
        resident["images"] = data.ResidentImages(rows, image_shape)
        arrays: dict[str, tuple[tuple[int, ...], Any]] = {"indices": ((images,), jnp.int32)}
    elif placement == "host":
        arrays = {
            "invariance_views": ((2, images, *views), jnp.float32),
            "equivariance_views": ((2, few, *shared), jnp.float32),
        }
    else:
        arrays = {
            "canvases": ((images, *(image_shape or data.canvas_shape(plan))), jnp.uint8),
            "boxes": ((2, images, 4), jnp.float32),
            "equivariance_images": ((few, *(image_shape or data.whole_shape(plan))), jnp.uint8),
        }
    if labelled:
        arrays["labels"] = ((images,), jnp.int32)
    return resident | {
        name: jax.ShapeDtypeStruct((count, *shape), dtype, sharding=sharding.along_axis(mesh, 1 + BATCH_AXES[name]))
        for name, (shape, dtype) in arrays.items()
        if few or not name.startswith("equivariance")
    }


def _host_batches(
    dataset: DataSet, plan: ViewPlan, placement: str, start_step: int, num_steps: int, num_threads: int | None
) -> Iterator[Mapping[str, np.ndarray]]:
    """This process's rows of each step's batch, but the resident images."""
    index, count = jax.process_index(), jax.process_count()
    if placement == "device":
        for step in range(start_step, num_steps):
            yield {"indices": _own_indices(dataset, plan, step)}
        return
    yield from data.host_batches(
        dataset.pretrain,
        plan,
        placement=placement,
        start_step=start_step,
        num_steps=num_steps,
        process_index=index,
        process_count=count,
        num_threads=num_threads,
        skipped=dataset.skipped,
    )


def _own_indices(dataset: DataSet, plan: ViewPlan, step: int) -> np.ndarray:
    """This process's examples of a step."""
    indices = data.batch_indices(plan.seed, step, num_examples=len(dataset.pretrain), batch_size=plan.batch_size)
    return np.split(indices, jax.process_count())[jax.process_index()]


def _with_labels(
    batches: Iterator[Mapping[str, np.ndarray]], dataset: DataSet, plan: ViewPlan, start_step: int
) -> Iterator[Mapping[str, np.ndarray]]:
    labels = dataset.pretrain.labels[data.CLASS]
    for step, batch in enumerate(batches, start_step):
        yield {**batch, "labels": labels[_own_indices(dataset, plan, step)]}
