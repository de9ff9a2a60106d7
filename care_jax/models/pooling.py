"""The max-pool of ResNet's ImageNet stem, with a gradient that is not slow on CPUs."""

import jax
import jax.numpy as jnp


def _max_pool(x: jax.Array) -> jax.Array:
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))


def _gradient(x: jax.Array, y: jax.Array, gradient: jax.Array) -> jax.Array:
    """As XLA differentiates the max-pool."""
    del y
    return jax.vjp(_max_pool, x)[1](gradient)[0]


def _gradient_on_cpu(x: jax.Array, y: jax.Array, gradient: jax.Array) -> jax.Array:
    """The same: a window's gradient goes to the first of its greatest inputs."""
    _, h, w, _ = x.shape
    rows, columns = y.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 2 * rows - h), (1, 2 * columns - w), (0, 0)), constant_values=-jnp.inf)
    chosen = jnp.zeros(y.shape, jnp.int32)
    for tap in reversed(range(9)):
        i, j = divmod(tap, 3)
        chosen = jnp.where(padded[:, i : i + 2 * rows - 1 : 2, j : j + 2 * columns - 1 : 2] == y, tap, chosen)

    def of_tap(i: int, j: int) -> jax.Array:
        """Its share, moved to where the window of tap 2 stands that has the same input."""
        share = jnp.where(chosen == 3 * i + j, gradient, 0)
        down, right = int(i == 0), int(j == 0)
        return jnp.pad(share[:, down:, right:], ((0, 0), (0, down), (0, right), (0, 0)))

    # Even rows and columns are the middle of one window, odd ones the end of one and the start of the next.
    taps = ((1,), (2, 0))
    phases = [[sum(of_tap(i, j) for i in odd_row for j in odd) for odd in taps] for odd_row in taps]
    spread = jnp.stack([jnp.stack(phase, 3) for phase in phases], 2)
    return spread.reshape(len(x), 2 * rows, 2 * columns, -1)[:, :h, :w]


@jax.custom_vjp
def max_pool(x: jax.Array) -> jax.Array:
    """The greatest input of every 3x3 window, stride 2, padded by one on every side.

    [b, h, w, c] -> [b, (h + 1) // 2, (w + 1) // 2, c]. Of several that are equal the first gets the gradient. On CPUs
    XLA scatters that gradient, slowly; there it is put together from slices. `jax.jvp` isn't defined.
    """
    return _max_pool(x)


def _forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = _max_pool(x)
    return y, (x, y)


def _backward(residuals: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array]:
    return (jax.lax.platform_dependent(*residuals, gradient, cpu=_gradient_on_cpu, default=_gradient),)


max_pool.defvjp(_forward, _backward)
