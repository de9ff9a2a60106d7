"""Features and embeddings of whole sets with the encoder in evaluation mode: no example dropped, none counted twice."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from jax.sharding import Mesh

from care_jax import data
from care_jax.augment import AugmentSpec, CloudSpec, Spec, augmented
from care_jax.data import DataError, Examples, SkippedFiles
from care_jax.devices import sharding
from care_jax.evaluate.rows import Gathering, Rows


class Embedded(NamedTuple):
    """A set as the encoder sees it.

    Attributes:
      features: n of w numbers, float32, before the projection head; cut over the devices.
      embeddings: [n, d] float32, unit rows; whole on every process.
      rows: [n] which of the examples these are: all of them, but for files that could not be read.
    """

    features: Rows
    embeddings: np.ndarray
    rows: np.ndarray


class Embedder:
    """Embeds sets of images, or of clouds, on all devices.

    Its arguments but the encoder and the batch's size are its attributes.

    Args:
      encoder: `models.Encoder`.
      mesh: the devices.
      spec: what an image goes through when nothing is drawn: the central square, normalised; a cloud stays as it is.
      batch_size: images a forward pass; rounded up to a multiple of the number of devices.
      skipped: counts files that could not be read.
      check: called before each batch; raises what ends the embedding.
      side: of the central squares that encoded images are brought to, pixels; None: large enough for the specs to take
        their part of it.
    """

    def __init__(
        self,
        encoder: linen.Module,
        mesh: Mesh,
        spec: Spec,
        *,
        batch_size: int,
        skipped: SkippedFiles,
        check: Callable[[], None] = lambda: None,
        side: int | None = None,
    ):
        self.spec = spec
        self._batch_size = -(-batch_size // mesh.size) * mesh.size
        self.skipped = skipped
        self.check = check
        self.mesh = mesh
        if side is None:
            side = 0 if isinstance(spec, CloudSpec) else round(spec.size / spec.center_fraction)
        self.side = side
        self._rows = sharding.along_axis(mesh, 0)
        # Embeddings are whole on every device, so that every process has all of them, whoever read the image.
        shardings = self._rows, sharding.replicated(mesh), sharding.replicated(mesh)

        @partial(jax.jit, out_shardings=shardings)
        def forward(
            variables: Mapping[str, Any], views: jax.Array, kept: jax.Array
        ) -> tuple[jax.Array, jax.Array, jax.Array]:
            outputs: tuple[jax.Array, jax.Array] = encoder.apply(variables, views, train=False)  # type: ignore[assignment]
            return *outputs, kept

        self._forward = forward

    def __call__(
        self,
        variables: Mapping[str, Any],
        examples: Examples,
        uniforms: np.ndarray | None = None,
        spec: Spec | None = None,
        then: np.ndarray | None = None,
    ) -> Embedded:
        """Embeds every example, as it is or augmented.

        Args:
          variables: of the encoder.
          examples: n images or clouds.
          uniforms: [K], one draw shared by all of them, or [n, K], a draw each; None for none.
          spec: the ranges they are drawn from.
          then: [K], a second draw, applied to what the first makes: of images as pixels of whole bytes.

        Raises:
          DataError: not one of the images could be read.
        """
        features = Gathering(self.mesh, -(-len(examples) // self._batch_size))
        embeddings: np.ndarray | None = None
        kept = np.zeros(len(examples), bool)

        def take(batch: int, made: tuple[jax.Array, jax.Array]) -> None:
            nonlocal embeddings
            some, mask = jax.device_get(made)
            if embeddings is None:
                embeddings = np.empty((len(examples), some.shape[1]), some.dtype)
            here = slice(batch * self._batch_size, (batch + 1) * self._batch_size)
            embeddings[here] = some[: len(kept[here])]
            kept[here] = mask[: len(kept[here])]

        newest: tuple[Any, ...] = ()
        for batch, (some_features, *made) in enumerate(self._batches(variables, examples, uniforms, spec, then)):
            features.add(some_features)
            # While the devices embed this batch, the host takes the one before; never more than two are under way.
            if newest:
                take(*newest)
            newest = batch, made
        take(*newest)
        (rows,) = np.nonzero(kept)
        if embeddings is None or not len(rows):
            raise DataError(f"none of {len(examples)} images to evaluate could be read: {self.skipped.summary()}")
        return Embedded(features.rows(rows), embeddings if kept.all() else embeddings[rows], rows)

    def stream(
        self, variables: Mapping[str, Any], examples: Examples
    ) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
        """Embeds every example as it is, a batch at a time: for sets whose embeddings fit no memory. One process.

        Args:
          variables: of the encoder.
          examples: n images.

        Yields:
          How many examples were looked at; the rows [b] of those that could be read, their features [b, w] and
          embeddings [b, d].
        """

        def host(batch: int, made: tuple[jax.Array, ...]) -> tuple[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
            start = batch * self._batch_size
            features, embeddings, kept = (array[: len(examples) - start] for array in jax.device_get(made))
            return len(kept), (start + np.flatnonzero(kept), features[kept], embeddings[kept])

        newest: tuple[Any, ...] = ()
        for batch, made in enumerate(self._batches(variables, examples, None, None)):
            if newest:
                yield host(*newest)
            newest = batch, made
        if newest:
            yield host(*newest)

    def _batches(
        self,
        variables: Mapping[str, Any],
        examples: Examples,
        uniforms: np.ndarray | None,
        spec: Spec | None,
        then: np.ndarray | None = None,
    ) -> Iterator[tuple[jax.Array, jax.Array, jax.Array]]:
        """Features, embeddings and which rows of a batch are real, on the devices, as soon as they are dispatched."""
        for images, indices, mask in self.batches(examples):
            self.check()
            drawn: Any = uniforms
            if drawn is not None and drawn.ndim == 2:
                drawn = self._put(drawn[indices])
            ranges = self.spec if spec is None else spec
            views = _view(self._put(images), drawn, spec=ranges, mesh=self.mesh)
            if then is not None:
                if isinstance(ranges, AugmentSpec):
                    views = _pixels(views, spec=ranges, mesh=self.mesh)
                views = _view(views, then, spec=ranges, mesh=self.mesh)
            yield self._forward(variables, views, self._put(mask))

    def _put(self, rows: np.ndarray) -> jax.Array:
        return sharding.from_process(self._rows, rows)

    def batches(
        self, examples: Examples, *, all_rows: bool = False
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Images uint8 [b, h, w, 3] or clouds [b, L, 4], their rows [b], and which are real: the last batch is padded.

        Args:
          examples: n images.
          all_rows: every process gets all rows of a batch, not its share of them.
        """
        index, count = (0, 1) if all_rows else (jax.process_index(), jax.process_count())
        return data.batches_in_order(
            examples,
            side=self.side,
            batch_size=self._batch_size,
            process_index=index,
            process_count=count,
            skipped=self.skipped,
        )


# Apart from the encoder, which is compiled once for all that is drawn.
@partial(jax.jit, static_argnames=("spec", "mesh"))
def _view(images: jax.Array, uniforms: jax.Array | None, *, spec: Spec, mesh: Mesh) -> jax.Array:
    if uniforms is not None and uniforms.ndim == 1 and isinstance(spec, AugmentSpec):
        # A row each, as in training: one matrix for all images becomes one product with transposes, twice as slow.
        uniforms = jnp.broadcast_to(uniforms, (len(images), *uniforms.shape))
    _, views = augmented(uniforms, images, spec)
    return jax.lax.with_sharding_constraint(views, sharding.along_axis(mesh, 0))


@partial(jax.jit, static_argnames=("spec", "mesh"))
def _pixels(views: jax.Array, *, spec: AugmentSpec, mesh: Mesh) -> jax.Array:
    """Images uint8 of normalised views."""
    images = views * np.asarray(spec.std, np.float32) + np.asarray(spec.mean, np.float32)
    rounded = jnp.clip(jnp.round(images * 255.0), 0, 255).astype(jnp.uint8)
    return jax.lax.with_sharding_constraint(rounded, sharding.along_axis(mesh, 0))
