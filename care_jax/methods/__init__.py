"""Base objectives and equivariance terms, one file each; a new one is its file plus one line below."""

from collections.abc import Callable

from care_jax.methods.ablation import alignment, none, uniformity
from care_jax.methods.augself import augself
from care_jax.methods.barlow_twins import barlow_twins
from care_jax.methods.base import Method, Objective, Outputs, Space, Term, Terms, Update, Views
from care_jax.methods.byol import byol
from care_jax.methods.care import care
from care_jax.methods.equimod import equimod
from care_jax.methods.essl import essl
from care_jax.methods.moco import moco
from care_jax.methods.simclr import simclr
from care_jax.methods.vicreg import vicreg

# `loss.method` -> its factory. Its arguments are settings of `loss`, or pieces of the run (`experiment/objective.py`).
METHODS: dict[str, Callable[..., Method]] = {
    "simclr": simclr,
    "moco": moco,
    "byol": byol,
    "barlow_twins": barlow_twins,
    "vicreg": vicreg,
    "alignment": alignment,
    "uniformity": uniformity,
    "none": none,
}

# `equivariance.term` -> its factory.
TERMS: dict[str, Callable[..., Term]] = {"care": care, "equimod": equimod, "essl": essl, "augself": augself}

__all__ = [
    "METHODS",
    "TERMS",
    "Method",
    "Objective",
    "Outputs",
    "Space",
    "Term",
    "Terms",
    "Update",
    "Views",
    "alignment",
    "augself",
    "barlow_twins",
    "byol",
    "care",
    "equimod",
    "essl",
    "moco",
    "none",
    "simclr",
    "uniformity",
    "vicreg",
]
