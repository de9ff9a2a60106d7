"""The bytes of a step's collectives: read rightly from HLO, and growing as they should."""

import jax
import numpy as np
import pytest

from care_jax.devices import sharding
from care_jax.devices.collectives import collectives
from care_jax.experiment import build

HLO = """HloModule jit_step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%inner (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[], f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x.1 = f32[8]{0} get-tuple-element(%p), index=1
  %all-reduce.3 = f32[8]{0} all-reduce(%x.1), replica_groups={{0,1}}, to_apply=%add
  ROOT %t = (s32[], f32[8]{0}) tuple(%i, %all-reduce.3)
}

%outer (p.1: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p.1 = (s32[], f32[8]{0}) parameter(0)
  ROOT %w = (s32[], f32[8]) while(%p.1), condition=%c, body=%inner, backend_config={"known_trip_count":{"n":"3"}}
}

%fused (f: f32[64]) -> f32[128] {
  %f = f32[64]{0:T(64)S(1)} parameter(0)
  ROOT %all-gather.7 = f32[128]{0:T(128)S(1)} all-gather(%f), channel_id=7, dimensions={0}
}

%async (g: f32[16]) -> f32[8] {
  %g = f32[16]{0} parameter(0)
  ROOT %reduce-scatter.1 = f32[8]{0} reduce-scatter(%g), channel_id=9, dimensions={0}, to_apply=%add
}

ENTRY %main (a: bf16[4,2], b: f32[10], c: s32[], d: f32[64]) -> bf16[4,2] {
  %a = bf16[4,2]{1,0} parameter(0)
  %b = f32[10]{0} parameter(1)
  %c.1 = s32[] parameter(2)
  %d = f32[64]{0:T(64)S(1)} parameter(3)
  %e = f32[8]{0} slice(%b), slice={[0:8]}
  %g.1 = f32[16]{0} concatenate(%e, %e), dimensions={0}
  %p.2 = (s32[], f32[8]) tuple(%c.1, %e)
  %w2 = (s32[], f32[8]) while(%p.2), condition=%c, body=%outer, backend_config={"known_trip_count":{"n":"5"}}
  %all-gather.1 = bf16[8,2]{1,0:T(8,128)(2,1)} all-gather(%a), dimensions={0}
  %all-reduce-start = (f32[10]{0}, s32[]) all-reduce-start(%b, %c.1), to_apply=%add
  %done = (f32[10]{0}, s32[]) all-reduce-done(%all-reduce-start)
  %all-gather-start = (f32[64]{0}, f32[256]{0}) all-gather-start(%d), dimensions={0}
  %done.1 = f32[256]{0} all-gather-done(%all-gather-start)
  %permute = (f32[10]{0}, f32[10]{0}, u32[], u32[]) collective-permute-start(%b), source_target_pairs={{0,1},{1,0}}
  %done.2 = f32[10]{0} collective-permute-done(%permute)
  %gather_fusion = f32[128]{0:T(128)S(1)} fusion(%d), kind=kCustom, calls=%fused
  %gather_fusion.1 = f32[128]{0:T(128)S(1)} fusion(%d), kind=kCustom, calls=%fused
  %async-start = ((f32[16]{0}), f32[8]{0}, s32[]) async-start(%g.1), calls=%async
  %async-done = f32[8]{0} async-done(%async-start), calls=%async
  ROOT %r = bf16[4,2]{1,0} add(%a, %a)
}
"""


def test_instructions_loops_and_types():
    """Asynchronous ones count once, with or without their operands listed; so does one cut into pieces (a TPU's)."""
    assert [(one.kind, one.num_bytes, one.times) for one in collectives(HLO)] == [
        ("all-gather", 256 * 4, 1),
        ("all-gather", 128 * 4, 1),
        ("all-reduce", 8 * 4 * 15, 15),
        ("all-reduce", 10 * 4 + 4, 1),
        ("collective-permute", 10 * 4, 1),
        ("all-gather", 8 * 2 * 2, 1),
        ("reduce-scatter", 8 * 4, 1),
    ]


@pytest.fixture(scope="module")
def num_bytes(request):
    """Of a step's collectives on eight devices: (config, small_encoder, width) -> by kind of array."""
    cache = {}

    def measure(config, encoder, width=32):
        key = config.train.batch_size, config.equivariance.num_groups, width
        if key not in cache:
            config.augment.placement = "host"
            experiment = build.build(config, sharding.make_mesh())._replace(encoder=encoder(width))
            on_devices = sharding.along_axis(experiment.mesh, 1)
            views = jax.ShapeDtypeStruct((2, config.train.batch_size, 16, 16, 3), np.float32, sharding=on_devices)
            step = jax.jit(build.make_step(experiment), out_shardings=sharding.replicated(experiment.mesh))
            lowered = step.lower(
                build.abstract_state(experiment), {"invariance_views": views, "equivariance_views": views}
            )
            cache[key] = sum(one.num_bytes for one in collectives(lowered.compile().as_text()))
        return cache[key]

    return measure


@pytest.mark.slow
@pytest.mark.parametrize("group_size", ["a part of the batch", "eight images"])
def test_bytes_grow_with_the_embeddings_never_with_their_pairs(tiny_config, small_encoder, num_bytes, group_size):
    """Twice the images add as many bytes as the images before; their pairs would add four times as many."""
    sizes = (64, 128, 256)
    totals = []
    for size in sizes:
        groups = 4 if group_size == "a part of the batch" else size // 8
        config = tiny_config(train__batch_size=size, equivariance__num_groups=groups)
        totals.append(num_bytes(config, small_encoder))
    first, second = np.diff(totals)
    assert second <= 2.1 * first
    # Four views of 8 numbers an image, gathered and their gradients returned: a few of those, not 2n similarities.
    assert first <= (sizes[1] - sizes[0]) * 4 * 8 * 4 * 8


@pytest.mark.slow
def test_bytes_grow_with_the_parameters(tiny_config, small_encoder, num_bytes):
    narrow, wide = (num_bytes(tiny_config(train__batch_size=64), small_encoder, width) for width in (32, 64))
    added = 32 * (8 * 8 * 3 + 1 + 2 + 8)  # of the backbone's dense layer, its batch norm, the head's first layer
    assert added * 4 <= wide - narrow <= 1.2 * added * 4
