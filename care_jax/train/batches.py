"""From a data set to the batches of a run's steps on the devices, each process reading its own rows alone."""

import itertools
from collections.abc import Iterable, Iterator, Mapping

import jax
import numpy as np
from jax.sharding import Mesh

from care_jax import data
from care_jax.augment import ViewPlan
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

    Returns:
      For each count, arrays of that many batches stacked along a new first axis; the resident images, which belong to
      no step, as they are.
    """
    resident = {}
    if placement == "device":
        resident["images"] = data.put_resident(dataset.pretrain, sharding.replicated(mesh))
    host_batches = _host_batches(dataset, plan, placement, start_step, num_steps, num_threads)
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


def _host_batches(
    dataset: DataSet, plan: ViewPlan, placement: str, start_step: int, num_steps: int, num_threads: int | None
) -> Iterator[Mapping[str, np.ndarray]]:
    """This process's rows of each step's batch, but the resident images."""
    index, count = jax.process_index(), jax.process_count()
    if placement == "device":
        for step in range(start_step, num_steps):
            indices = data.batch_indices(
                plan.seed, step, num_examples=len(dataset.pretrain), batch_size=plan.batch_size
            )
            yield {"indices": np.split(indices, count)[index]}
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
