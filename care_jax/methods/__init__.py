"""How a base objective uses the encoder's embeddings; a new method is one file here plus one line below."""

from collections.abc import Callable

from care_jax.methods.objective import Method, Objective
from care_jax.methods.simclr import simclr

METHODS: dict[str, Callable[..., Method]] = {"simclr": simclr}

__all__ = ["METHODS", "Method", "Objective", "simclr"]
