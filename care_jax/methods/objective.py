"""What a training step minimises: a base objective on independent views plus CARE's term on shared ones."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from care_jax import losses


class Method(NamedTuple):
    """A base objective.

    Attributes:
      name: as `loss.method` in the config names it.
      loss: embeddings of two views [2, b, d], unit rows -> its terms by name; their sum is minimised.
    """

    name: str
    loss: Callable[[jax.Array], dict[str, jax.Array]]


class Objective(NamedTuple):
    """L = L_base + lambda * L_equi (PAPER.md's section 1; arXiv:2306.13924, section 3.1).

    Attributes:
      method: the base objective.
      equivariance_weight: lambda; 0 leaves the plain base objective, and no shared views are made.
      num_groups: g, groups of the shared views' batch; each was augmented by one pair of draws.
    """

    method: Method
    equivariance_weight: float
    num_groups: int

    def __call__(self, embeddings: jax.Array, shared: jax.Array | None) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The total and its terms, unweighted, by name.

        Args:
          embeddings: [2, b, d] of independently augmented views, unit rows.
          shared: [2, e, d] of views augmented by their group's draws, unit rows; None where lambda is 0.

        Returns:
          The scalar to minimise, and every term by name (`loss` is the total).
        """
        terms = dict(self.method.loss(embeddings))
        total = jnp.stack(list(terms.values())).sum()
        if shared is not None:
            terms["equivariance"] = losses.equivariance_loss(shared[0], shared[1], num_groups=self.num_groups)
            total = total + self.equivariance_weight * terms["equivariance"]
        return total, {"loss": total, **terms}
