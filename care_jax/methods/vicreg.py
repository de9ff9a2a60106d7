"""VICReg: views close to each other, every dimension spread out, dimensions uncorrelated. No negatives."""

from typing import Any

from care_jax import losses
from care_jax.methods.base import Method, Outputs, Terms


def vicreg(*, invariance_weight: float = 25.0, variance_weight: float = 25.0, covariance_weight: float = 1.0) -> Method:
    """Three terms of the projections, before they are put on the sphere: `invariance`, `variance`, `covariance`.

    Args:
      invariance_weight, variance_weight, covariance_weight: of the terms, which are logged with them.

    Source: Bardes et al., ICLR 2022.
    """

    def loss(outputs: Outputs, state: Any) -> Terms:
        del state
        first, second = outputs["projections"][:2]
        return {
            "invariance": invariance_weight * losses.invariance(first, second),
            "variance": variance_weight * losses.variance(first, second),
            "covariance": covariance_weight * losses.covariance(first, second),
        }

    return Method(name="vicreg", loss=loss)
