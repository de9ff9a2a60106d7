"""Convolutions padded as in torch, in forms that XLA is fast at on CPUs.

XLA:CPU has a fast library for convolutions, YNNPACK (jaxlib 0.10), but takes it only where the layout is NHWC and
HWIO, the kernel no larger than the map, nothing reversed or dilated on the left, and there are more than 16 features.
What a ResNet needs beyond that is written here as such a convolution, or as a matrix product.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from care_jax.losses.arrays import wide

# More features than this, on one side at least, and XLA:CPU takes its fast library.
_FEW_FEATURES = 16
_AXIS = "data"  # of the devices that share a batch out, in `care_jax.devices.sharding`


def _conv(
    x: jax.Array,
    kernel: jax.Array,
    padding: Sequence[tuple[int, int]],
    strides: tuple[int, int] = (1, 1),
    **options: Any,
) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


def _convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    # torch pads both sides alike; XLA's "SAME" pads a stride-2 convolution more on the right.
    padding = (kernel.shape[0] - 1) // 2
    return _conv(x, kernel, ((padding, padding),) * 2, strides=(stride, stride))


def _gradients(x: jax.Array, kernel: jax.Array, gradient: jax.Array, stride: int) -> tuple[jax.Array, jax.Array]:
    """As XLA differentiates the convolution."""
    x_gradient, kernel_gradient = jax.vjp(lambda x, kernel: _convolve(x, kernel, stride), x, kernel)[1](gradient)
    return x_gradient, kernel_gradient.astype(_wide_dtype(x))


def _gradients_on_tpu(x: jax.Array, kernel: jax.Array, gradient: jax.Array, stride: int) -> tuple[jax.Array, jax.Array]:
    """The same, but the kernel's gradient leaves the convolution, whose sums are float32, as it is.

    So devices add it up in float32; and where a kernel is used twice in a step they add the sum of both, once.
    """
    (x_gradient,) = jax.vjp(lambda x: _convolve(x, kernel, stride), x)[1](gradient)
    kernel_gradient = jax.lax.conv_general_dilated(
        x,
        gradient,
        (1, 1),
        _ends(x, kernel, gradient, stride),
        rhs_dilation=(stride, stride),
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
        preferred_element_type=_wide_dtype(x),
    )
    return x_gradient, kernel_gradient


def _wide_dtype(x: jax.Array) -> jnp.dtype:
    return wide(x.dtype)


def _ends(x: jax.Array, kernel: jax.Array, gradient: jax.Array, stride: int) -> tuple[tuple[int, int], ...]:
    """The padding with which x, convolved by its outputs' gradient, gives the kernel's."""
    size, padding = kernel.shape[0], (kernel.shape[0] - 1) // 2
    # A stride leaves rows over that no output has seen.
    return tuple((padding, stride * (gradient.shape[i] - 1) + size - x.shape[i] - padding) for i in (1, 2))


def _every_output_sees_every_input(x: jax.Array, kernel: jax.Array) -> bool:
    return max(x.shape[1:3]) <= (kernel.shape[0] + 1) // 2


def _product(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The same convolution where every output sees every input: one matrix product of all positions."""
    b, h, w, _ = x.shape
    padding = (kernel.shape[0] - 1) // 2
    rows, columns = range(padding, padding - h, -stride), range(padding, padding - w, -stride)
    # [h', w', h, w, in, out]: what each output sees of the kernel.
    seen = jnp.stack([jnp.stack([kernel[i : i + h, j : j + w] for j in columns]) for i in rows])
    matrix = jnp.moveaxis(seen, (0, 1), (3, 4)).reshape(h * w * x.shape[-1], -1)
    return (x.reshape(b, -1) @ matrix).reshape(b, len(rows), len(columns), kernel.shape[-1])


def _wide(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The same convolution where features are few: neighbouring outputs become features of one output."""
    b, w = x.shape[0], x.shape[2]
    size, features = kernel.shape[0], kernel.shape[-1]
    padding, width = (size - 1) // 2, (w - 1) // stride + 1
    # Two outputs of a 3x3 kernel; four of the stem's 7x7, stride 2, whose kernels overlap as much.
    count = math.gcd(width, 2 if size == 3 else 4)
    kernels = [jnp.pad(kernel, ((0, 0), (stride * i, stride * (count - 1 - i)), (0, 0), (0, 0))) for i in range(count)]
    paddings = ((padding, padding), (padding, stride * (width - 1) + size - w - padding))
    y = _conv(x, jnp.concatenate(kernels, axis=-1), paddings, strides=(stride, stride * count))
    return y.reshape(b, y.shape[1], width, features)


def _convolve_on_cpu(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    if len(kernel) == 1:
        return x[:, ::stride, ::stride] @ kernel[0, 0]
    if _every_output_sees_every_input(x, kernel):
        return _product(x, kernel, stride)
    if max(kernel.shape[2:]) <= _FEW_FEATURES:
        return _wide(x, kernel, stride)
    return _convolve(x, kernel, stride)


def _input_gradient_on_cpu(x: jax.Array, kernel: jax.Array, gradient: jax.Array, stride: int) -> jax.Array:
    if len(kernel) == 1:
        return jax.vjp(lambda x: _convolve_on_cpu(x, kernel, stride), x)[1](gradient)[0]
    flipped = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    if stride == 1:
        return _convolve_on_cpu(gradient, flipped, 1)
    size, padding = kernel.shape[0], (kernel.shape[0] - 1) // 2
    ends = tuple((size - 1 - padding, x.shape[i] + padding - stride * (gradient.shape[i] - 1) - 1) for i in (1, 2))
    return _conv(gradient, flipped, ends, lhs_dilation=(stride, stride))


def _over_chunks(
    of_chunk: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array, gradient: jax.Array, most_bytes: int
) -> jax.Array:
    """The sum of `of_chunk` over chunks of images, of x and the gradient together no more bytes than a cache holds."""
    b = len(x)
    bytes_per_image = x.dtype.itemsize * (x.size + gradient.size) // b
    chunk = max(n for n in range(1, b + 1) if b % n == 0 and (n == 1 or n * bytes_per_image <= most_bytes))

    def add_chunk(total: jax.Array, start: jax.Array) -> tuple[jax.Array, None]:
        # Sliced here, not by the scan: for arrays of another shape XLA would make x a second time.
        return total + of_chunk(*(jax.lax.dynamic_slice_in_dim(y, start, chunk) for y in (x, gradient))), None

    sums = jax.eval_shape(of_chunk, *(jax.lax.slice_in_dim(y, 0, chunk) for y in (x, gradient)))
    zeros = jnp.zeros(sums.shape, sums.dtype)
    # Two at a time keep two cores busy: a convolution of few features takes one.
    return jax.lax.scan(add_chunk, zeros, jnp.arange(0, b, chunk), unroll=2)[0]


def _over_own_chunks(
    of_chunk: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array, gradient: jax.Array, most_bytes: int
) -> jax.Array:
    """The same where devices share the images: each sums over its own, and the sums meet once.

    XLA would bring all images to every device: it shares no convolution out in which they are the features.
    """
    over_chunks = functools.partial(_over_chunks, of_chunk, most_bytes=most_bytes)
    mesh = jax.sharding.get_abstract_mesh()
    shared_out = mesh.axis_names == (_AXIS,) and mesh.axis_types == (AxisType.Auto,) and mesh.size > 1
    eager = getattr(jax.config, "jax_disable_jit", False)  # whose arrays would have to lie on the mesh by themselves
    if not shared_out or eager or len(x) % mesh.size:
        return over_chunks(x, gradient)
    return jax.shard_map(
        lambda *own: jax.lax.psum(over_chunks(*own), _AXIS),
        in_specs=PartitionSpec(_AXIS),
        out_specs=PartitionSpec(),
        check_vma=False,
    )(x, gradient)


def _kernel_gradient_on_cpu(x: jax.Array, kernel: jax.Array, gradient: jax.Array, stride: int) -> jax.Array:
    """Convolutions of x by the gradient, in which images are the features; of one position a matrix product."""
    dtype = _wide_dtype(x)
    if len(kernel) == 1:
        # Over chunks too: XLA would transpose the whole gradient.
        product = functools.partial(jnp.einsum, "nhwi,nhwo->io", preferred_element_type=dtype)
        return _over_own_chunks(product, x[:, ::stride, ::stride], gradient, 2**22)[None, None]
    ends = _ends(x, kernel, gradient, stride)

    def by_convolution(x: jax.Array, gradient: jax.Array) -> jax.Array:
        """[in, size, size, out]."""
        x, gradient = x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3)
        return _conv(x, gradient, ends, rhs_dilation=(stride, stride), preferred_element_type=dtype)

    return _over_own_chunks(by_convolution, x, gradient, 2**20).transpose(1, 2, 0, 3)


def _gradients_on_cpu(x: jax.Array, kernel: jax.Array, gradient: jax.Array, stride: int) -> tuple[jax.Array, jax.Array]:
    if len(kernel) > 1 and _every_output_sees_every_input(x, kernel):
        x_gradient, kernel_gradient = jax.vjp(lambda x, kernel: _product(x, kernel, stride), x, kernel)[1](gradient)
        return x_gradient, kernel_gradient.astype(_wide_dtype(x))
    return (
        _input_gradient_on_cpu(x, kernel, gradient, stride),
        _kernel_gradient_on_cpu(x, kernel, gradient, stride),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """A convolution padded by (size - 1) // 2 on every side, as ResNet's are in torch.

    On CPUs it and its gradients are written in the forms above, elsewhere they are XLA's own; the same numbers up to
    rounding. (XLA's for GPUs, too, in jaxlib 0.10: it aborts over the gradient of a strided 1x1 convolution that is
    written as a matrix product.) The price is that forward-mode differentiation (`jax.jvp`) isn't defined.

    Where several CPU devices share the batch out, differentiate within `jax.sharding.use_abstract_mesh` of their mesh,
    whose one axis is `data`: then each takes the kernel's gradient of its own images. Otherwise each takes that of all.

    Args:
      x: [b, h, w, in].
      kernel: [size, size, in, out], an odd size; rounded to the dtype of `x`. Its gradient has its own dtype.
      stride: of both axes.

    Returns:
      [b, h', w', out] in the dtype of `x`, h' = (h - 1) // stride + 1.
    """
    return jax.lax.platform_dependent(
        x,
        kernel.astype(x.dtype),
        cpu=functools.partial(_convolve_on_cpu, stride=stride),
        default=functools.partial(_convolve, stride=stride),
    )


def _forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(x, kernel, stride), (x, kernel)


def _backward(stride: int, residuals: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    x_gradient, kernel_gradient = jax.lax.platform_dependent(
        x,
        kernel.astype(x.dtype),
        gradient,
        cpu=functools.partial(_gradients_on_cpu, stride=stride),
        tpu=functools.partial(_gradients_on_tpu, stride=stride),
        default=functools.partial(_gradients, stride=stride),
    )
    return x_gradient, kernel_gradient.astype(kernel.dtype)


convolve.defvjp(_forward, _backward)
