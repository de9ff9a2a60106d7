"""Our whole step for `benchmarks.peer`, put together from the parts that a configuration names, without a config."""

import time
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import settings
from benchmarks.settings import Case
from care_jax import augment, data, methods, models
from care_jax.devices import cores, sharding
from care_jax.train import optim
from care_jax.train.placements import PLACEMENTS, ViewPlan
from care_jax.train.state import init_state
from care_jax.train.step import make_train_step

BACKBONES = {"resnet18": models.resnet18, "resnet50": models.resnet50}


def make_encoder(case: Case) -> models.Encoder:
    """The backbone and head of the case."""
    dtype = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[case.dtype]
    return models.Encoder(
        backbone=BACKBONES[case.model](stem=settings.STEM, width=case.width, dtype=dtype),
        head=models.ProjectionHead(settings.HEAD_HIDDEN_SIZES, settings.HEAD_SIZE, batch_norm=True, dtype=dtype),
    )


def make_plan(case: Case) -> ViewPlan:
    """Four views of every image: two with a draw an image, two with a draw a group."""
    spec = augment.AugmentSpec(size=settings.IMAGE_SIZE, mean=settings.MEAN, std=settings.STD, **settings.AUGMENTATION)
    return ViewPlan(
        invariance=spec,
        equivariance=spec,
        seed=settings.SEED,
        batch_size=case.batch_size,
        equivariance_batch_size=case.batch_size,
        num_groups=settings.NUM_GROUPS,
        draws="group",
    )


def make_objective() -> methods.Objective:
    """SimCLR with CARE's term on the projection."""
    term = methods.Care(num_groups=settings.NUM_GROUPS)
    return methods.Objective(methods.SimCLR(temperature=settings.TEMPERATURE), term, settings.EQUIVARIANCE_WEIGHT)


class Ours:
    """Gather from resident uint8 images, augment, four views through the encoder, losses, backward, Adam: one call.

    Args:
      case: kind "ours".
    """

    def __init__(self, case: Case):
        cores.share_out([case.batch_size])  # as a run does
        mesh = sharding.make_mesh(jax.devices()[:1] if jax.default_backend() != "cpu" else None)
        schedule = optim.make_schedule("constant", settings.LEARNING_RATE, num_steps=1)
        optimizer = optim.make_optimizer("adam", schedule, weight_decay=settings.WEIGHT_DECAY)
        encoder, self._plan = make_encoder(case), make_plan(case)
        objective = make_objective()
        side = settings.IMAGE_SIZE
        noise = np.random.default_rng(0).integers(0, 256, (case.num_images, side, side, 3), np.uint8)
        self._images = data.put_resident(data.Examples(images=noise), sharding.replicated(mesh))
        self._rows = sharding.along_axis(mesh, 0)
        self._next = 0

        def init() -> object:
            return init_state(encoder, objective, optimizer, self._plan, seed=settings.SEED)

        self._state = jax.jit(init, out_shardings=sharding.replicated(mesh))()
        self._step = jax.jit(
            make_train_step(encoder, objective, optimizer, schedule, self._plan, placement="device", mesh=mesh),
            donate_argnums=0,
        )

    def step(self) -> float:
        """Seconds of one step, from asking for it to its end on the device; the first one compiles."""
        began = time.perf_counter()
        self._state, metrics = jax.block_until_ready(self._step(self._state, self._batch()))
        seconds = time.perf_counter() - began
        assert np.isfinite(metrics["loss"])
        return seconds

    def views(self, repeats: int = 5) -> float:
        """Seconds, median, that the gather and the augmentation of one step take by themselves."""
        views = jax.jit(self._make_views)
        times = []
        for _ in range(repeats + 1):  # the first one compiles
            batch, step = self._batch(), jnp.asarray(self._next, jnp.int32)
            began = time.perf_counter()
            jax.block_until_ready(views(batch, step))
            times.append(time.perf_counter() - began)
        return float(np.median(times[1:]))

    def _make_views(self, batch: Mapping[str, jax.Array], step: jax.Array) -> methods.Views:
        """As the step makes them of {"images" uint8 [n, h, w, 3], "indices" [b]}."""
        return PLACEMENTS["device"](self._plan, batch, self._plan.uniforms(step))

    def _batch(self) -> Mapping[str, jax.Array]:
        indices = data.batch_indices(
            self._plan.seed, self._next, num_examples=len(self._images), batch_size=self._plan.batch_size
        )
        self._next += 1
        return {"images": self._images, "indices": sharding.from_process(self._rows, indices)}
