"""VICReg: views close to each other, every dimension spread out, dimensions uncorrelated. No negatives."""

from typing import Any

from care_jax import losses
from care_jax.methods.base import Method, Outputs, Terms
from care_jax.rules import at_least, setting


class VICReg(Method):
    """Three terms of the projections, before they are put on the sphere: `invariance`, `variance`, `covariance`.

    Source: Bardes et al., ICLR 2022.
    """

    name = "vicreg"
    # The terms are logged with their weights.
    invariance_weight: float = setting(25.0, at_least(0), "of the squared distance between views")
    variance_weight: float = setting(25.0, at_least(0), "of each dimension's lack of spread")
    covariance_weight: float = setting(1.0, at_least(0), "of the squared covariances between dimensions")

    def loss(self, outputs: Outputs, state: Any) -> Terms:
        first, second = outputs["projections"][:2]
        return {
            "invariance": self.invariance_weight * losses.invariance(first, second),
            "variance": self.variance_weight * losses.variance(first, second),
            "covariance": self.covariance_weight * losses.covariance(first, second),
        }
