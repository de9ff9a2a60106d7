"""SimCLR: the two views of an image attract each other and repel every other embedding of the batch."""

from typing import Any

from care_jax import losses
from care_jax.methods.base import TEMPERATURE, Method, Outputs, Terms


class SimCLR(Method):
    """NT-Xent on two independently drawn views: `losses.info_nce`, the term `info_nce`.

    Source: Chen et al., ICML 2020.
    """

    name = "simclr"
    temperature: float = TEMPERATURE

    def loss(self, outputs: Outputs, state: Any) -> Terms:
        first, second = outputs["embeddings"][:2]
        return {"info_nce": losses.info_nce(first, second, temperature=self.temperature)}
