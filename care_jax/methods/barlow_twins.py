"""Barlow Twins: the two views' cross-correlation of dimensions should be the identity. No negatives."""

from typing import Any

from care_jax import losses
from care_jax.methods.base import Method, Outputs, Terms
from care_jax.rules import at_least, setting


class BarlowTwins(Method):
    """`losses.barlow_twins` of the projections, before they are put on the sphere: the term `redundancy`.

    Source: Zbontar et al., ICML 2021.
    """

    name = "barlow_twins"
    off_diagonal_weight: float = setting(
        0.0051, at_least(0), "of the redundancy reduction, against the invariance on the diagonal"
    )

    def loss(self, outputs: Outputs, state: Any) -> Terms:
        first, second = outputs["projections"][:2]
        return {"redundancy": losses.barlow_twins(first, second, off_diagonal_weight=self.off_diagonal_weight)}
