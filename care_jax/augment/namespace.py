"""One definition for two placements: `jax.numpy` on the device, `tensorflow.experimental.numpy` inside `tf.data`.

The two differ in promotion (TensorFlow's NumPy makes float64 of a bare Python float), in unknown sizes and in
matrix precision. The helpers here hide exactly that; everything else in the room is written once against `xp`.
"""

from types import ModuleType
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Array: TypeAlias = Any  # a jax.Array, or a tf.Tensor; NumPy arrays are taken and become jax.Array


def is_tensorflow(x: Any) -> bool:
    """Whether x is a TensorFlow tensor (eager, symbolic or a variable), decided without importing TensorFlow."""
    return any(cls.__module__.partition(".")[0] == "tensorflow" for cls in type(x).__mro__)


def namespace(*arrays: Any) -> ModuleType:
    """The NumPy that computes on these arrays.

    Args:
      *arrays: arrays of any kind, or Python numbers.

    Returns:
      `tensorflow.experimental.numpy` if any of them is a TensorFlow tensor, else `jax.numpy`. TensorFlow is imported
      in the first case only.
    """
    if any(is_tensorflow(x) for x in arrays):
        import tensorflow.experimental.numpy as tnp

        return tnp
    return jnp


def to_float(xp: ModuleType, x: Any) -> Array:
    """x as float32, the one dtype of this room: a bare Python float would become float64 in TensorFlow's NumPy."""
    if not is_tensorflow(x) and xp is not jnp:
        x = np.asarray(x)  # a jax.Array inside a TensorFlow graph is a constant
    return xp.asarray(x, dtype=np.float32)


def length(x: Array, axis: int) -> Any:
    """The size of an axis: a Python int if known, else (in a TensorFlow graph) a scalar tensor."""
    if not is_tensorflow(x):
        return x.shape[axis]
    if x.shape.rank is not None and x.shape[axis] is not None:
        return x.shape[axis]
    import tensorflow as tf

    return tf.shape(x)[axis]


def positions(xp: ModuleType, n: Any) -> Array:
    """[0, 1, ..., n - 1] as float32; n as `length` gives it."""
    if not is_tensorflow(n):
        return to_float(xp, np.arange(n))
    import tensorflow as tf

    return tf.range(to_float(xp, n))


def clip(xp: ModuleType, x: Array, low: float, high: float) -> Array:
    """x limited to [low, high]. TensorFlow's own `clip` would first spread both bounds to the shape of x."""
    return xp.minimum(xp.maximum(x, to_float(xp, low)), to_float(xp, high))


def round_half_to_even(xp: ModuleType, x: Array) -> Array:
    """x rounded as Python's `round` does. TensorFlow's `around` works only after a process-wide switch."""
    if xp is jnp:
        return jnp.round(x)
    import tensorflow as tf

    return tf.round(x)


def gather(xp: ModuleType, x: Array, index: Array) -> Array:
    """Rows of a table an image, or of every table alike.

    Args:
      xp: the namespace of both.
      x: [..., n, k].
      index: [..., m] int32 in [0, n), with the leading axes of x, or [m].

    Returns:
      [..., m, k].
    """
    batch_axes = len(index.shape) - 1
    if xp is jnp:
        if batch_axes == 0:
            return jnp.take(x, index, axis=-2, mode="clip")
        return jnp.take_along_axis(x, index[..., None], axis=-2, mode="clip")
    import tensorflow as tf

    return tf.gather(x, index, axis=len(x.shape) - 2, batch_dims=batch_axes)


def compute_once(xp: ModuleType, x: Array) -> Array:
    """x, which XLA may not fold into the operations that read it.

    Colour operations read each other's three planes; folded together on a CPU, a chain of them is evaluated anew for
    every plane of every reader, which made one full augmentation thirteen times slower.
    """
    return jax.lax.optimization_barrier(x) if xp is jnp else x


def einsum(xp: ModuleType, subscripts: str, a: Array, b: Array) -> Array:
    """`xp.einsum` of two arrays in full float32, where an accelerator would take fewer bits by default."""
    if xp is jnp:
        return jnp.einsum(subscripts, a, b, precision=jax.lax.Precision.HIGHEST)
    return xp.einsum(subscripts, a, b)
