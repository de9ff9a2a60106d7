"""Barlow Twins: the two views' cross-correlation of dimensions should be the identity. No negatives."""

from typing import Any

from care_jax import losses
from care_jax.methods.base import Method, Outputs, Terms


def barlow_twins(*, off_diagonal_weight: float = 0.0051) -> Method:
    """`losses.barlow_twins` of the projections, before they are put on the sphere: the term `redundancy`.

    Args:
      off_diagonal_weight: of the redundancy reduction, against the invariance on the diagonal.

    Source: Zbontar et al., ICML 2021.
    """

    def loss(outputs: Outputs, state: Any) -> Terms:
        del state
        first, second = outputs["projections"][:2]
        return {"redundancy": losses.barlow_twins(first, second, off_diagonal_weight=off_diagonal_weight)}

    return Method(name="barlow_twins", loss=loss)
