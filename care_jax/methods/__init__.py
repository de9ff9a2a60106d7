"""Base objectives and equivariance terms, one file each; a new one is its file plus its class in the list below.

`METHODS` and `TERMS` are the registries; `TEMPERATURE` is the setting that contrastive methods share, for one of your
own too: `temperature: float = TEMPERATURE`.
"""

from care_jax.methods.ablation import Alignment, Nothing, Uniformity
from care_jax.methods.augself import AugSelf, augself_color, augself_crop
from care_jax.methods.barlow_twins import BarlowTwins
from care_jax.methods.base import (
    TEMPERATURE,
    Method,
    Objective,
    Outputs,
    Pieces,
    Space,
    Term,
    Terms,
    Update,
    Views,
    settings_of,
)
from care_jax.methods.byol import BYOL
from care_jax.methods.care import Care
from care_jax.methods.equimod import EQUIMOD_SIZE, EquiMod, equimod_parameters, equimod_standardisation
from care_jax.methods.essl import ESSL
from care_jax.methods.moco import MoCo
from care_jax.methods.sie import SIE
from care_jax.methods.simclr import SimCLR
from care_jax.methods.vicreg import VICReg

_METHODS: list[type[Method]] = [SimCLR, MoCo, BYOL, BarlowTwins, VICReg, Alignment, Uniformity, Nothing]
_TERMS: list[type[Term]] = [Care, EquiMod, ESSL, AugSelf, SIE]

# By `loss.method` and by `equivariance.term`. Modules that the setting `extensions` names may add to them.
METHODS = {method.name: method for method in _METHODS}
TERMS = {term.name: term for term in _TERMS}

__all__ = [
    "BYOL",
    "EQUIMOD_SIZE",
    "ESSL",
    "METHODS",
    "SIE",
    "TEMPERATURE",
    "TERMS",
    "Alignment",
    "AugSelf",
    "BarlowTwins",
    "Care",
    "EquiMod",
    "Method",
    "MoCo",
    "Nothing",
    "Objective",
    "Outputs",
    "Pieces",
    "SimCLR",
    "Space",
    "Term",
    "Terms",
    "Uniformity",
    "Update",
    "VICReg",
    "Views",
    "augself_color",
    "augself_crop",
    "equimod_parameters",
    "equimod_standardisation",
    "settings_of",
]
