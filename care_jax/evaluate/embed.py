"""Features and embeddings of whole sets with the encoder in evaluation mode: no example dropped, none counted twice."""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from jax.sharding import Mesh

from care_jax import augment, data
from care_jax.augment import AugmentSpec
from care_jax.data import Examples, SkippedFiles
from care_jax.train import sharding


class Embedded(NamedTuple):
    """A set as the encoder sees it.

    Attributes:
      features: [n, w] float32, before the projection head.
      embeddings: [n, d] float32, unit rows.
      rows: [n] which of the examples these are: all of them, but for files that could not be read.
    """

    features: np.ndarray
    embeddings: np.ndarray
    rows: np.ndarray


class Embedder:
    """Embeds sets of images on all devices.

    Args:
      encoder: `models.Encoder`.
      mesh: the devices.
      spec: what an image goes through when nothing is drawn: the central square, normalised.
      batch_size: images a forward pass; rounded up to a multiple of the number of devices.
      skipped: counts files that could not be read.
    """

    def __init__(self, encoder: linen.Module, mesh: Mesh, spec: AugmentSpec, *, batch_size: int, skipped: SkippedFiles):
        self.spec = spec
        self._batch_size = -(-batch_size // mesh.size) * mesh.size
        self._skipped = skipped
        self._rows = sharding.along_axis(mesh, 0)

        @partial(jax.jit, static_argnames="spec")
        def forward(
            variables: Mapping[str, Any], images: jax.Array, uniforms: jax.Array | None, spec: AugmentSpec
        ) -> tuple[jax.Array, jax.Array]:
            height, width = images.shape[1:3]
            if uniforms is None:
                augmentation = augment.identity(spec, height=height, width=width)
            else:
                augmentation = augment.sample(uniforms, spec, height=height, width=width)
            views = augment.apply(augmentation, images, spec)
            outputs: tuple[jax.Array, jax.Array] = encoder.apply(variables, views, train=False)  # type: ignore[assignment]
            return outputs

        self._forward = forward

    def __call__(
        self,
        variables: Mapping[str, Any],
        examples: Examples,
        uniforms: jax.Array | None = None,
        spec: AugmentSpec | None = None,
    ) -> Embedded:
        """Embeds every example, as it is or augmented.

        Args:
          variables: of the encoder.
          examples: n images.
          uniforms: [NUM_UNIFORMS], one draw shared by all the images, or [n, NUM_UNIFORMS], a draw each; None for none.
          spec: the ranges they are drawn from.
        """
        features, embeddings, rows = [], [], []
        for images, indices, mask in self.batches(examples):
            drawn = uniforms
            if drawn is not None and drawn.ndim == 2:
                drawn = drawn[np.minimum(indices, len(examples) - 1)]  # padding borrows the last row
            images = jax.device_put(images, self._rows)
            batch = self._forward(variables, images, drawn, self.spec if spec is None else spec)
            kept_features, kept_embeddings = jax.device_get(batch)
            features.append(kept_features[mask])
            embeddings.append(kept_embeddings[mask])
            rows.append(indices[mask])
        return Embedded(np.concatenate(features), np.concatenate(embeddings), np.concatenate(rows))

    def batches(self, examples: Examples) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Images [b, h, w, 3], their rows [b], and which of them are real: the last batch is padded."""
        size = self._batch_size
        if not isinstance(examples.images, np.ndarray):
            # The whole central square, large enough for the specs to take their part of it here.
            square = dataclasses.replace(
                self.spec, center_fraction=1.0, size=round(self.spec.size / self.spec.center_fraction)
            )
            yield from data.evaluation_batches(examples, square, batch_size=size, skipped=self._skipped)
            return
        for start in range(0, len(examples), size):
            indices = np.arange(start, start + size)
            mask = indices < len(examples)
            yield examples.images[np.where(mask, indices, 0)], indices, mask


def unit_rows(features: jax.Array) -> jax.Array:
    """Rows of length one, [n, w]; a zero row stays zero."""
    return features / jnp.maximum(jnp.linalg.norm(features, axis=-1, keepdims=True), 1e-12)
