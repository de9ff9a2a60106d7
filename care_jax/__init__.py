"""CARE in JAX: encoders in which augmenting an input rotates its embedding, and the measures of how well they do it.

Where to look: `losses/equivariance.py` (the term that makes the paper), `augment/` (an augmentation is a value),
`train/step.py` (one update), `metrics/` (Wahba's error and relative equivariance), `main.py` (the launcher).
"""

from pathlib import Path

# `care_jax.configs`, the bundled configurations: installed they lie inside the package, in a checkout beside it, where
# people edit them.
_CHECKOUT = Path(__file__).parents[1]
if (_CHECKOUT / "pyproject.toml").is_file() and (_CHECKOUT / "configs" / "base.py").is_file():
    __path__.append(str(_CHECKOUT))

__version__ = "0.1.0"
