"""The convolution of ResNets: the forms it takes on CPUs against XLA's own."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.devices import sharding
from care_jax.models.convolution import _gradients, _gradients_on_tpu, convolve

# (size, stride, input, out_features). Of the kernels and strides of a ResNet, one for each form: maps whose every
# output sees every input; few features, neighbouring outputs as features of one; maps that a stride doesn't divide; a
# prime number of chunks of images; a single position.
CASES = [
    (3, 1, (6, 1, 1, 20), 5),
    (3, 1, (6, 2, 2, 20), 5),
    (3, 2, (6, 2, 1, 4), 20),
    (7, 2, (4, 4, 3, 3), 5),
    (3, 1, (6, 8, 9, 4), 16),
    (7, 2, (6, 33, 30, 3), 4),
    (3, 2, (6, 9, 8, 20), 5),
    (3, 1, (7, 32, 30, 64), 8),
    (1, 2, (6, 5, 8, 20), 5),
]


def _plain(x, kernel, stride):
    padding = [(kernel.shape[0] // 2,) * 2] * 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _operands(size, shape, out_features, dtype):
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape).astype(dtype), rng.standard_normal((size, size, shape[-1], out_features)).astype(
        dtype
    )


def _all_gradients(convolution, stride, x, kernel):
    """The output, and its gradients by x and the kernel."""
    output, gradients = jax.vjp(partial(convolution, stride=stride), x, kernel)
    return output, *gradients(jnp.sin(jnp.arange(output.size, dtype=output.dtype)).reshape(output.shape))


@pytest.mark.parametrize("shared_out", [False, True])
@pytest.mark.parametrize(("size", "stride", "shape", "out_features"), CASES)
def test_output_and_gradients_equal_xlas(shared_out, size, stride, shape, out_features):
    devices = (7 if shape[0] == 7 else 2) if shared_out else 1
    mesh = sharding.make_mesh(jax.devices()[:devices])
    function = lambda *operands: [  # noqa: E731
        _all_gradients(function, stride, *operands) for function in (convolve_at, _plain)
    ]
    with jax.enable_x64(True):
        operands = _operands(size, shape, out_features, np.float64)
        places = (sharding.along_axis(mesh, 0), sharding.replicated(mesh))
        ours, theirs = jax.jit(sharding.within(mesh, function), in_shardings=places)(*operands)
    for our, their in zip(ours, theirs, strict=True):
        assert our.dtype == np.float64
        assert np.linalg.norm(our - their) < 1e-12 * np.linalg.norm(their)


def convolve_at(x, kernel, stride):
    """`convolve` takes the stride by position alone."""
    return convolve(x, kernel, stride)


def _slow_convolutions(compiled_text):
    """Convolutions of a compiled program that XLA:CPU did not hand to its fast library."""
    computations = re.split(r"\n(?=%|ENTRY )", compiled_text)
    fast = set(re.findall(r"calls=(%[\w.\-]+)[^\n]*__ynn_fusion", compiled_text))
    return [
        line.strip()
        for computation in computations
        if computation.split(" ", 1)[0] not in fast
        for line in computation.splitlines()
        if " convolution(" in line
    ]


# As in ResNet-18 of width 64 and, the last three, as in the digits' of width 16.
@pytest.mark.parametrize(
    ("size", "stride", "shape", "out_features"),
    [
        (3, 1, (4, 32, 32, 64), 64),
        (3, 1, (4, 4, 4, 128), 128),
        (3, 1, (32, 8, 8, 16), 16),
        (3, 1, (4, 2, 2, 64), 64),
        (3, 1, (4, 1, 1, 128), 128),
    ],
)
def test_xla_takes_its_fast_library_in_a_loop_too(size, stride, shape, out_features):
    x, kernel = _operands(size, shape, out_features, np.float32)

    def in_a_loop(convolution):
        step = lambda total, x: (  # noqa: E731
            jax.tree.map(jnp.add, total, _all_gradients(convolution, stride, x, kernel)),
            None,
        )
        zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(partial(_all_gradients, _plain, stride), x, kernel))
        return jax.jit(lambda x: jax.lax.scan(step, zeros, x)).lower(x[None]).compile().as_text()

    text = in_a_loop(convolve_at)
    if "__ynn_fusion" not in text:
        pytest.skip("this XLA has no such library")
    assert not _slow_convolutions(text)
    if shape[1] in (2, 8):  # the test can tell
        assert _slow_convolutions(in_a_loop(_plain))


# The last one in several chunks: without a mesh to look up, devices would bring all images together for them.
@pytest.mark.parametrize(
    ("shape", "out_features"),
    [((16, 2, 2, 20), 20), ((16, 8, 8, 20), 20), ((16, 8, 8, 4), 4), ((16, 32, 32, 64), 20)],
)
def test_devices_sum_over_their_own_images(shape, out_features):
    mesh = sharding.make_mesh()
    x, kernel = _operands(3, shape, out_features, np.float32)
    cut, whole = sharding.along_axis(mesh, 0), sharding.replicated(mesh)
    gradients = jax.jit(
        sharding.within(mesh, partial(_all_gradients, convolve_at, 1)),
        in_shardings=(cut, whole),
        out_shardings=(cut, cut, whole),
    )
    text = gradients.lower(x, kernel).compile().as_text()
    assert len(re.findall(r" all-reduce\(", text)) == 1
    assert not re.search(r"\b(all-gather|all-to-all|collective-permute)", text)
    assert "__ynn_fusion" not in text or not _slow_convolutions(text)
    for ours, theirs in zip(gradients(x, kernel), _all_gradients(_plain, 1, x, kernel), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_devices_that_do_not_divide_the_batch_take_the_whole_kernels_gradient():
    mesh = sharding.make_mesh(jax.devices()[:4])
    x, kernel = _operands(3, (6, 8, 8, 20), 20, np.float32)
    ours = sharding.within(mesh, partial(_all_gradients, convolve_at, 1))
    made = jax.jit(ours, in_shardings=sharding.replicated(mesh))(x, kernel)
    for our, their in zip(made, _all_gradients(_plain, 1, x, kernel), strict=True):
        np.testing.assert_allclose(our, their, rtol=1e-4, atol=1e-4)


def test_devices_are_not_looked_up_outside_of_jit():
    x, kernel = _operands(3, (16, 8, 8, 20), 20, np.float32)
    ours = sharding.within(sharding.make_mesh(), partial(_all_gradients, convolve_at, 1))
    with jax.disable_jit():
        made = ours(x, kernel)
    for our, their in zip(made, _all_gradients(_plain, 1, x, kernel), strict=True):
        np.testing.assert_allclose(our, their, rtol=1e-4, atol=1e-4)


def test_gradients_under_vmap_and_twice():
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, 4, 6, 6, 3), np.float32), rng.standard_normal((3, 3, 3, 5), np.float32)
    gradient = jax.grad(lambda kernel, x: jnp.sum(jnp.sin(convolve(x, kernel, 2))))
    one_by_one = jax.jit(lambda: jnp.stack([gradient(kernel, y) for y in x]))()
    together = jax.jit(jax.vmap(gradient, in_axes=(None, 0)))(kernel, x)
    np.testing.assert_allclose(together, one_by_one, rtol=1e-4, atol=1e-4)

    directional = jax.jit(lambda kernel: jnp.vdot(gradient(kernel, x[0]), one_by_one[1]))
    one_by_one = np.asarray(one_by_one)
    step = 1e-2 * one_by_one[0] / np.linalg.norm(one_by_one[0])
    difference = directional(kernel + step) - directional(kernel - step)
    np.testing.assert_allclose(np.vdot(jax.jit(jax.grad(directional))(kernel), 2 * step), difference, rtol=1e-2)


@pytest.mark.parametrize(
    ("size", "stride", "shape"), [(1, 1, (4, 5, 4, 3)), (1, 2, (4, 5, 4, 3)), (3, 2, (4, 7, 6, 3))]
)
def test_gradients_in_the_form_for_tpus_are_the_same(size, stride, shape):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, kernel = jnp.asarray(rng.standard_normal(shape)), jnp.asarray(rng.standard_normal((size, size, 3, 5)))
        gradient = jnp.asarray(rng.standard_normal(convolve(x, kernel, stride).shape))
        ours = jax.vjp(lambda x, kernel: convolve(x, kernel, stride), x, kernel)[1](gradient)
        expected = _gradients(x, kernel, gradient, stride)
        for found in (ours, _gradients_on_tpu(x, kernel, gradient, stride)):
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2)])
def test_the_kernels_gradient_is_never_rounded_to_bfloat16(size, stride):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((4, 6, 6, 3)), jnp.bfloat16)
    kernel = jnp.asarray(rng.standard_normal((size, size, 3, 5)), jnp.float32)

    def weighted(x, kernel, weights):
        return jnp.sum(convolve(x, kernel, stride).astype(weights.dtype) * weights)

    weights = jnp.asarray(rng.standard_normal(convolve(x, kernel, stride).shape), jnp.bfloat16)
    found = jax.grad(weighted, 1)(x, kernel, weights)
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(y, np.float64)) for y in (x, kernel, weights)]
        exact = jax.grad(weighted, 1)(*wide)
        on_tpu = _gradients_on_tpu(x, kernel.astype(x.dtype), weights, stride)[1]
    for gradient in (found, on_tpu):
        assert gradient.dtype == jnp.float32
        np.testing.assert_allclose(gradient, exact, rtol=1e-5, atol=1e-5)  # bfloat16 is good to 4e-3
