"""Deep Sets: a backbone for sets of points, blind to their order."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from care_jax.losses.arrays import wide
from care_jax.models.heads import Linear

POOLINGS = ("mean", "sum", "max")


class DeepSet(nn.Module):
    """A permutation-invariant network from sets of points to features.

        f(X) = rho(pool over the points x of X of phi(x)),

    phi and rho multi-layer perceptrons with a ReLU between any two linear layers (so phi ends with one, rho doesn't).
    There is no batch normalisation: its statistics would be taken over padded points too, and a set's features would
    depend on how far the sets beside it are padded.

    Attributes:
      point_sizes: of phi's layers; at least one.
      set_sizes: of rho's layers; () for features that are the pooled points.
      pooling: "mean", "sum" or "max". The mean doesn't tell a set from one with every point twice; the sum does.
      dtype: of the computation; parameters, pooling and features are float32 at least.

    Example:
      >>> model = DeepSet(point_sizes=(16,), set_sizes=(8,))
      >>> points = jnp.arange(30.0).reshape(2, 5, 3) / 30  # two sets of five points in space
      >>> variables = jax.jit(model.init)(jax.random.key(0), points)
      >>> features, backwards = (jax.jit(model.apply)(variables, x) for x in (points, points[:, ::-1]))
      >>> features.shape, bool(jnp.allclose(features, backwards, atol=1e-6))
      ((2, 8), True)

    Source: Zaheer et al., "Deep Sets" (NeurIPS 2017), theorem 2.
    """

    point_sizes: tuple[int, ...]
    set_sizes: tuple[int, ...]
    pooling: str = "mean"
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise ValueError(f"DeepSet pooling must be one of {POOLINGS}, got {self.pooling!r}")
        if not self.point_sizes or min((*self.point_sizes, *self.set_sizes)) < 1:
            raise ValueError(
                f"DeepSet needs a point layer and positive sizes, got point_sizes {self.point_sizes} and "
                f"set_sizes {self.set_sizes}"
            )
        super().__post_init__()

    @property
    def num_features(self) -> int:
        """The size w of the feature vectors."""
        return (*self.point_sizes, *self.set_sizes)[-1]

    @nn.compact
    def __call__(
        self, points: jax.Array, train: bool = False, num_views: int = 1, *, mask: jax.Array | None = None
    ) -> jax.Array:
        """Features of sets.

        Args:
          points: [b * v, n, c], n points of c coordinates a set.
          train: ignored: there are no batch statistics.
          num_views: ignored likewise.
          mask: [b * v, n], True or 1 for a point, False or 0 for padding; None if there is none. Whatever stands in the
            padding, NaN included, reaches neither the features nor a gradient.

        Returns:
          [b * v, num_features], float32 at least. A set without points is pooled to zeros, whatever the pooling.

        Raises:
          ValueError: points or mask of another shape.
        """
        if points.ndim != 3:
            raise ValueError(f"DeepSet points must be [sets, points, coordinates], got shape {points.shape}")
        if mask is None:
            mask = jnp.ones(points.shape[:2], bool)
        if mask.shape != points.shape[:2]:
            raise ValueError(f"DeepSet mask must be [sets, points], got shape {mask.shape} for points {points.shape}")
        is_point = mask.astype(bool)[..., None]

        # Before phi too: 0 * NaN is NaN, so a NaN that only the pooling left out would return in the gradient.
        x = jnp.where(is_point, points, 0).astype(self.dtype)
        for i, size in enumerate(self.point_sizes):
            x = nn.relu(Linear(size, dtype=self.dtype, name=f"point_linear{i}")(x))
        x = self._pool(x.astype(wide(self.dtype)), is_point)
        for i, size in enumerate(self.set_sizes):
            x = nn.relu(x) if i > 0 else x
            x = Linear(size, dtype=self.dtype, name=f"set_linear{i}")(x)
        return x.astype(wide(self.dtype))

    def _pool(self, x: jax.Array, is_point: jax.Array) -> jax.Array:
        """[sets, n, size] and [sets, n, 1] -> [sets, size]."""
        if self.pooling == "max":
            # The largest of no point would be minus infinity; after a ReLU 0 is the smallest value there is.
            return jnp.max(x, axis=1, where=is_point, initial=0.0)
        total = jnp.sum(x, axis=1, where=is_point)
        return total / jnp.maximum(is_point.sum(1), 1) if self.pooling == "mean" else total


class CloudBackbone(nn.Module):
    """A backbone for clouds as data sets have them, one array each: coordinates, and 1 for a point or 0 for none.

    Attributes:
      network: what embeds points [b * v, n, c] with a mask [b * v, n].
    """

    network: DeepSet

    @property
    def num_features(self) -> int:
        """The size w of the feature vectors."""
        return self.network.num_features

    @nn.compact
    def __call__(self, clouds: jax.Array, train: bool = False, num_views: int = 1) -> jax.Array:
        """Clouds [b * v, n, c + 1] -> features [b * v, w]; see `DeepSet`."""
        features: jax.Array = self.network(clouds[..., :-1], train, num_views, mask=clouds[..., -1] > 0)
        return features


def deep_set(*, width: int = 64, pooling: str = "mean", dtype: Any = jnp.float32) -> CloudBackbone:
    """Three layers for a point, of w, w and 2 w units, and two for the set, of 2 w: 2 w features. See `DeepSet`."""
    return CloudBackbone(DeepSet((width, width, 2 * width), (2 * width, 2 * width), pooling, dtype))
