"""Halves of the inputs, what is summed over them, and bootstrap intervals: of the measures that are held out."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

P = ParamSpec("P")
T = TypeVar("T")

# One draw [n, d], or several: [a, n, d], or any iterable of [n, d]. Arrays, or nested lists.
Draws = ArrayLike | Iterable[ArrayLike]

_LEVEL = 0.95
# Up to this many dimensions one thread does the algebra. More wait for each other, and that for long where the machine
# is busy: 120 singular value decompositions of [64, 64] and their products took 14 s with two threads beside other
# programs on two cores, 0.3 s with one.
_NARROW = 512


class Estimate(NamedTuple):
    """A number and how far it is known.

    Attributes:
      mean: the number, over all inputs.
      low, high: 95 % bootstrap interval.
      n: inputs it is over.
    """

    mean: float
    low: float
    high: float
    n: int


def halves(n: int, seed: int) -> list[np.ndarray]:
    """Two random halves of the rows 0, ..., n - 1; of an odd n the first has one more."""
    return np.array_split(np.random.default_rng(seed).permutation(n), 2)


def interval(
    sums: np.ndarray, statistic: Callable[[np.ndarray, np.ndarray], np.ndarray], *, seed: int, bootstraps: int
) -> Estimate:
    """A statistic of two sums over the inputs, and its interval over inputs drawn with replacement.

    Args:
      sums: what each input adds to numerator and denominator, [n, 2]; no denominator is negative.
      statistic: (numerators [b], denominators [b]) -> [b].
      seed: of the resamples.
      bootstraps: how many.

    Raises:
      ValueError: bootstraps < 1.
    """
    if bootstraps < 1:
        raise ValueError(f"bootstraps must be 1 or more; got {bootstraps}")
    n, generator = len(sums), np.random.default_rng((seed, 1))  # apart from the halves
    drawn = np.empty((bootstraps, 2))
    for row in range(bootstraps):
        drawn[row] = np.bincount(generator.integers(n, size=n), minlength=n) @ sums
    drawn = drawn[drawn[:, 1] > 0]  # a resample in which nothing moves says nothing
    low, high = np.quantile(statistic(*drawn.T), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]) if len(drawn) else [np.nan] * 2
    return Estimate(float(statistic(*sums.sum(axis=0))), float(low), float(high), n)


def checked(name: str, what: str, array: ArrayLike, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """An array [n, d], of NumPy or of JAX or nested lists, as float64 of NumPy.

    Args:
      name: of the function, for the error.
      what: of its argument.
      array: any numbers.
      shape: that it must have; None for any.

    Raises:
      ValueError: not [n, d] or not that shape; n < 4; not finite.
    """
    found = np.asarray(array)
    if found.ndim != 2 or not is_number(found.dtype) or len(found) < 4 or not found.shape[1]:
        raise ValueError(f"{name}: {what} must be numbers [n, d], n >= 4; got {found.dtype}{list(found.shape)}")
    if shape is not None and found.shape != shape:
        raise ValueError(f"{name}: {what} must be {list(shape)}, as before is; got {list(found.shape)}")
    found = found.astype(np.float64, copy=False)
    if not np.isfinite(found).all():
        row = int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])
        raise ValueError(f"{name}: {what} is not finite, first in row {row}")
    return found


def is_number(dtype: Any) -> bool:
    """Whether it is a type of real numbers: bfloat16 too, which NumPy takes for none."""
    return bool(jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating))


def of_draws(name: str, what: str, draws: Draws, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Each draw [n, d] as float64, one in memory at a time; an array [n, d], or a list of n rows, is one draw.

    Raises:
      ValueError: as of `checked`; there is none; an array of neither two nor three axes.
    """
    found, several = False, cast(Any, draws)
    axes = getattr(several, "ndim", None)  # of NumPy's arrays, of JAX's, ...
    if isinstance(several, list | tuple) and several and np.ndim(several[0]) == 1:
        axes = 2
    if axes not in (None, 2, 3):
        raise ValueError(f"{name}: {what} must be [n, d], or [a, n, d] of several draws; got {list(several.shape)}")
    for draw in [several] if axes == 2 else several:
        found = True
        yield checked(name, what, draw, shape)
    if not found:
        raise ValueError(f"{name}: {what} has no draw")


def on_few_threads(function: Callable[P, T]) -> Callable[P, T]:
    """The function with one thread of linear algebra where its first argument, [n, d], has few dimensions."""
    first = next(iter(inspect.signature(function).parameters))

    @functools.wraps(function)
    def limited(*args: P.args, **settings: P.kwargs) -> T:
        array: Any = args[0] if args else settings.get(first)
        controller = _thread_controller() if np.shape(array)[-1:] <= (_NARROW,) else None
        with contextlib.nullcontext() if controller is None else controller.limit(limits=1, user_api="blas"):
            return function(*args, **settings)

    return limited


@functools.cache
def _thread_controller() -> Any:
    """None without threadpoolctl, which comes with scikit-learn: then it takes longer."""
    try:
        import threadpoolctl
    except ImportError:
        return None
    return threadpoolctl.ThreadpoolController()
