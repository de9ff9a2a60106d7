"""CARE in JAX: encoders in which augmenting an input rotates its embedding, and the measures of how well they do it.

    import care_jax
    care_jax.losses.info_nce(z1, z2, temperature=0.5)

Where to look: `losses/equivariance.py` (the term that makes the paper), `augment/` (an augmentation is a value),
`train/step.py` (one update), `metrics/` (Wahba's error and relative equivariance), `main.py` (the launcher).
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what `__getattr__` imports at run time
    from care_jax import augment, data, losses, methods, metrics, models, trained

__version__ = "0.1.0"

__all__ = ["augment", "data", "losses", "methods", "metrics", "models", "trained"]

# `care_jax.configs`, the bundled configurations: installed they lie inside the package, in a checkout beside it, where
# people edit them.
_CHECKOUT = Path(__file__).parents[1]
if (_CHECKOUT / "pyproject.toml").is_file() and (_CHECKOUT / "configs" / "base.py").is_file():
    __path__.append(str(_CHECKOUT))


if not TYPE_CHECKING:  # of a type checker it would make every name a module, and of no module the types be known

    def __getattr__(name: str) -> ModuleType:
        """A room, imported when it is first named: `import care_jax` alone imports no JAX."""
        if name not in __all__:
            raise AttributeError(f"module 'care_jax' has no attribute {name!r}")
        try:
            return importlib.import_module(f"care_jax.{name}")
        except ModuleNotFoundError as error:
            raise ImportError(f"care_jax.{name} needs {error.name}: pip install 'care_jax[train]'") from error


def __dir__() -> list[str]:
    """Its rooms, and what every module has: not what is imported here."""
    loaded = {name for name in globals() if f"{__name__}.{name}" in sys.modules}
    return sorted({name for name in globals() if name.startswith("__")} | loaded | {*__all__})
