"""CARE in JAX: encoders in which augmenting an input rotates its embedding, and the measures of how well they do it.

Where to look: `losses/equivariance.py` (the term that makes the paper), `augment/` (an augmentation is a value),
`train/step.py` (one update), `metrics/` (Wahba's error and relative equivariance), `main.py` (the launcher).
"""

__version__ = "0.1.0"
