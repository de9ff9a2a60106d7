"""Runs an operation in either placement."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import numpy as np
import pytest


@cache
def _compiled(operation: Callable, static: frozenset) -> Callable:
    return jax.jit(partial(operation, **dict(static)))


def run_in_jax(operation: Callable, images: Any, *parameters: Any, **static: Any) -> np.ndarray:
    """Compiled once for each operation, shape and static arguments: much faster than one operation at a time."""
    result = _compiled(operation, frozenset(static.items()))(np.float32(images), *map(np.asarray, parameters))
    assert result.dtype == np.float32
    return np.asarray(result)


def run_in_tensorflow(operation: Callable, images: Any, *parameters: Any, **static: Any) -> np.ndarray:
    import tensorflow as tf

    result = operation(tf.constant(np.float32(images)), *parameters, **static)
    assert result.dtype == tf.float32
    return result.numpy()


@pytest.fixture(params=["jax", "tensorflow"])
def run(request: pytest.FixtureRequest) -> Callable[..., np.ndarray]:
    """`run(operation, images, *parameters, **static)`: a float32 NumPy array, computed by JAX or by TensorFlow."""
    return {"jax": run_in_jax, "tensorflow": run_in_tensorflow}[request.param]


@pytest.fixture(scope="session")
def run_jax() -> Callable[..., np.ndarray]:
    """`run` in JAX only."""
    return run_in_jax
