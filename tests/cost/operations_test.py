"""Operations are those of matrix products and convolutions, counted as often as they run, on every backend."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax import models
from care_jax.cost.operations import matrix_operations, uncounted
from care_jax.devices import hlo


def count(text: str) -> int:
    program = hlo.read(text)
    return sum(matrix_operations(program, hlo.executed(program)).values())


def compiled(function, *shapes, dtype=jnp.float32) -> str:
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    return jax.jit(function).lower(*arguments).compile().as_text()


def test_a_chain_of_products():
    def chain(x, w):
        for _ in range(3):
            x = jnp.sin(x @ w)
        return x

    text = compiled(chain, (40, 64), (64, 64))
    assert count(text) == 3 * 2 * 40 * 64 * 64


def test_a_loop_counts_as_often_as_it_turns():
    """XLA's own count takes its body once."""

    def scan(x, w):
        return jax.lax.scan(lambda x, _: (jnp.sin(x @ w), None), x, length=10)[0]

    lowered = jax.jit(scan).lower(*[jax.ShapeDtypeStruct(s, jnp.float32) for s in ((40, 64), (64, 64))])
    product = 2 * 40 * 64 * 64
    assert count(lowered.compile().as_text()) == count(lowered.as_text("hlo")) == 10 * product
    assert lowered.compile().cost_analysis()["flops"] < 2 * product


def test_products_of_batches_by_type():
    text = compiled(lambda x, y: jnp.einsum("nij,nkj->nik", x, y), (5, 7, 16), (5, 9, 16), dtype=jnp.bfloat16)
    program = hlo.read(text)
    found = matrix_operations(program, hlo.executed(program))
    assert sum(found.values()) == 2 * 5 * 7 * 9 * 16


def _by_hand(side, kernel, stride, pad, dilation=1, kernel_dilation=1):
    """Multiplications of two numbers that are there, along one axis, over all places of the result."""
    given = [i // dilation if i % dilation == 0 else None for i in range((side - 1) * dilation + 1)]
    given = [None] * pad[0] + given + [None] * pad[1]
    reach = (kernel - 1) * kernel_dilation
    starts = range(0, len(given) - reach, stride)
    return sum(given[s + k * kernel_dilation] is not None for s, k in itertools.product(starts, range(kernel)))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_convolutions_and_their_gradients_without_padding_and_holes(stride, kernel):
    images, channels, features, side = 4, 6, 10, 9

    def conv(x, k):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, k, (stride, stride), "SAME", dimension_numbers=numbers)

    shapes = (images, side, side, channels), (kernel, kernel, channels, features)
    total = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
    pairs = _by_hand(side, kernel, stride, (total // 2, total - total // 2)) ** 2
    forward = 2 * images * channels * features * pairs
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    assert count(jax.jit(conv).lower(*arguments).as_text("hlo")) == forward
    # Each gradient multiplies the same pairs; the loss is linear, so its gradient asks for no forward pass.
    for place in (0, 1):
        gradient = jax.jit(jax.grad(lambda x, k: conv(x, k).sum(), place)).lower(*arguments)
        assert count(gradient.as_text("hlo")) == forward


def test_convolutions_of_groups():
    def conv(x, k):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, k, (1, 1), "VALID", dimension_numbers=numbers, feature_group_count=3, rhs_dilation=(2, 1)
        )

    text = jax.jit(conv).lower(
        jax.ShapeDtypeStruct((2, 9, 9, 12), jnp.float32), jax.ShapeDtypeStruct((3, 3, 4, 6), jnp.float32)
    )
    assert count(text.as_text("hlo")) == 2 * 2 * (5 * 3) * (7 * 3) * 4 * 6


def test_resnet50_is_the_published_four_billion_products():
    """4.09e9 multiplications an image at 224 by torchvision's count; 3.5 % of them are with padding: not ours."""
    model = models.resnet50(stem="imagenet")
    images = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    text = jax.jit(lambda v, x: model.apply(v, x, train=False)).lower(variables, images).as_text("hlo")
    assert 0.96 * 4.09e9 < count(text) / 2 / 2 < 4.09e9


LIBRARIES = """
ENTRY %main (x: f32[8,9,9,6], k: f32[10,3,3,6], y: f32[8,5,5,10], a: bf16[7,16], b: bf16[16,5]) -> f32[7,5] {
  %x = f32[8,9,9,6]{3,2,1,0} parameter(0)
  %k = f32[10,3,3,6]{3,2,1,0} parameter(1)
  %y = f32[8,5,5,10]{3,2,1,0} parameter(2)
  %a = bf16[7,16]{1,0} parameter(3)
  %b = bf16[16,5]{1,0} parameter(4)
  %f = (f32[8,5,5,10]{3,2,1,0}, u8[64]{0}) custom-call(%x, %k), window={size=3x3 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward"
  %i = (f32[8,9,9,6]{3,2,1,0}, u8[64]{0}) custom-call(%y, %k), window={size=3x3 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput"
  %w = (f32[10,3,3,6]{3,2,1,0}, u8[64]{0}) custom-call(%x, %y), window={size=3x3 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter"
  %g = (f32[7,5]{1,0}, s8[64]{0}) custom-call(%a, %b), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
  %s = f32[7,5]{1,0} custom-call(%a), custom_call_target="SomeSolver"
  ROOT %r = f32[7,5]{1,0} get-tuple-element(%g), index=0
}
"""  # noqa: E501


def test_what_libraries_compute_on_a_gpu():
    """cuDNN's labels are the forward convolution's in all three; what nobody knows is named."""
    program = hlo.read(LIBRARIES)
    executed = hlo.executed(program)
    pairs = _by_hand(9, 3, 2, (1, 1)) ** 2
    assert matrix_operations(program, executed) == {"f32": 3 * 2 * 8 * 6 * 10 * pairs, "bf16": 2 * 7 * 5 * 16}
    assert uncounted(executed) == {"SomeSolver": 1}
    assert np.isclose(pairs, 13**2)
