"""SimCLR: the two views of an image attract each other and repel every other embedding of the batch."""

import jax

from care_jax import losses
from care_jax.methods.objective import Method


def simclr(*, temperature: float) -> Method:
    """NT-Xent on two independently drawn views (Chen et al., ICML 2020).

    Args:
      temperature: tau of `losses.info_nce`.

    Returns:
      A method whose loss takes embeddings [2, b, d], unit rows, and has one term, `info_nce`.
    """

    def loss(embeddings: jax.Array) -> dict[str, jax.Array]:
        return {"info_nce": losses.info_nce(embeddings[0], embeddings[1], temperature=temperature)}

    return Method(name="simclr", loss=loss)
