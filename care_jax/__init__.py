"""CARE in JAX: encoders in which augmenting an input rotates its embedding, and the measures of how well they do it.

    import care_jax
    care_jax.losses.info_nce(z1, z2, temperature=0.5)

Where to look: `losses/equivariance.py` (the term that makes the paper), `augment/` (an augmentation is a value),
`train/step.py` (one update), `metrics/` (Wahba's error and relative equivariance), `main.py` (the launcher).
"""

import importlib
from pathlib import Path
from types import ModuleType

__version__ = "0.1.0"

__all__ = ["augment", "data", "losses", "methods", "metrics", "models"]

# `care_jax.configs`, the bundled configurations: installed they lie inside the package, in a checkout beside it, where
# people edit them.
_CHECKOUT = Path(__file__).parents[1]
if (_CHECKOUT / "pyproject.toml").is_file() and (_CHECKOUT / "configs" / "base.py").is_file():
    __path__.append(str(_CHECKOUT))


def __getattr__(name: str) -> ModuleType:
    """A room, imported when it is first named: `import care_jax` alone imports no JAX."""
    if name not in __all__:
        raise AttributeError(f"module 'care_jax' has no attribute {name!r}")
    try:
        return importlib.import_module(f"care_jax.{name}")
    except ModuleNotFoundError as error:
        raise ImportError(f"care_jax.{name} needs {error.name}: pip install 'care_jax[train]'") from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
