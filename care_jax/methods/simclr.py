"""SimCLR: the two views of an image attract each other and repel every other embedding of the batch."""

from typing import Any

from care_jax import losses
from care_jax.methods.base import Method, Outputs, Terms


def simclr(*, temperature: float) -> Method:
    """NT-Xent on two independently drawn views (Chen et al., ICML 2020): the term `info_nce`.

    Args:
      temperature: tau of `losses.info_nce`.
    """

    def loss(outputs: Outputs, state: Any) -> Terms:
        del state
        first, second = outputs["embeddings"][:2]
        return {"info_nce": losses.info_nce(first, second, temperature=temperature)}

    return Method(name="simclr", loss=loss)
