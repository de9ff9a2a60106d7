"""The parts of CARE's loss one by one, for the paper's ablation (its figures 10 to 16).

alignment only        loss.method=alignment   equivariance.weight=0
uniformity only       loss.method=uniformity  equivariance.weight=0
L_equi only           loss.method=none        equivariance.weight above 0
L_equi + uniformity   loss.method=uniformity  equivariance.weight above 0
InfoNCE               loss.method=simclr      equivariance.weight=0
CARE                  loss.method=simclr      equivariance.weight above 0
"""

from typing import Any

from care_jax import losses
from care_jax.methods.base import TEMPERATURE, Method, Outputs, Terms


class Alignment(Method):
    """Positives attract each other, and nothing repels: `losses.alignment`. It collapses, as it should."""

    name = "alignment"
    temperature: float = TEMPERATURE

    def loss(self, outputs: Outputs, state: Any) -> Terms:
        first, second = outputs["embeddings"][:2]
        return {"alignment": losses.alignment(first, second, temperature=self.temperature)}


class Uniformity(Method):
    """Embeddings of different images repel each other, and nothing attracts: `losses.uniformity`."""

    name = "uniformity"
    temperature: float = TEMPERATURE

    def loss(self, outputs: Outputs, state: Any) -> Terms:
        first, second = outputs["embeddings"][:2]
        return {"uniformity": losses.uniformity(first, second, temperature=self.temperature)}


class Nothing(Method):
    """No base objective: the equivariance term alone."""

    name = "none"

    @property
    def projects(self) -> bool:
        return False

    def loss(self, outputs: Outputs, state: Any) -> Terms:
        return {}
