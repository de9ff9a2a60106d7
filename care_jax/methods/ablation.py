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
from care_jax.methods.base import Method, Outputs, Terms


def alignment(*, temperature: float) -> Method:
    """Positives attract each other, and nothing repels: `losses.alignment`. It collapses, as it should."""

    def loss(outputs: Outputs, state: Any) -> Terms:
        del state
        first, second = outputs["embeddings"][:2]
        return {"alignment": losses.alignment(first, second, temperature=temperature)}

    return Method(name="alignment", loss=loss)


def uniformity(*, temperature: float) -> Method:
    """Embeddings of different images repel each other, and nothing attracts: `losses.uniformity`."""

    def loss(outputs: Outputs, state: Any) -> Terms:
        del state
        first, second = outputs["embeddings"][:2]
        return {"uniformity": losses.uniformity(first, second, temperature=temperature)}

    return Method(name="uniformity", loss=loss)


def none() -> Method:
    """No base objective: the equivariance term alone."""
    return Method(name="none", loss=lambda outputs, state: {})
