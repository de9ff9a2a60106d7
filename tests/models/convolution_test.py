"""The convolution of ResNets: its gradient against XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.models.convolution import _gradients, _gradients_on_tpu, convolve


# The kernels and strides of a ResNet. The batches take one chunk of patches, seven (a prime number), and three.
@pytest.mark.parametrize(
    ("size", "stride", "shape", "out_features"),
    [(3, 2, (6, 8, 9, 4), 5), (7, 2, (7, 93, 90, 3), 4), (3, 1, (6, 32, 30, 64), 8)],
)
def test_gradients_of_the_convolution_equal_xlas(size, stride, shape, out_features):
    def plain(x, kernel, stride):
        padding = [(size // 2, size // 2)] * 2
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    @jax.jit
    def results(x, kernel):
        outputs = []
        for function in (convolve, plain):
            output, gradients = jax.vjp(lambda x, kernel, f=function: f(x, kernel, stride), x, kernel)
            outputs.append(
                (output, *gradients(jnp.sin(jnp.arange(output.size, dtype=jnp.float32)).reshape(output.shape)))
            )
        return outputs

    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((size, size, shape[-1], out_features), np.float32)
    for ours, theirs in zip(*results(rng.standard_normal(shape, np.float32), kernel), strict=True):
        assert np.linalg.norm(ours - theirs) < 1e-5 * np.linalg.norm(theirs)


def test_gradients_of_the_convolution_under_vmap_and_twice():
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
