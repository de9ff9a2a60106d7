"""The networks of a training step: the encoder, and the heads that an objective trains beside it."""

import zlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from care_jax.models.encoder import Encoder, Variables, encode_views, to_rows, to_views


class Networks:
    """Applies networks to views [v, b, ...], each view with batch statistics of its own.

    One object lives for one trace of a step. Applying a network folds the views' statistics into its running averages;
    `batch_stats` has them afterwards, so that a step stays a pure function.

    Attributes:
      params: {"backbone": ..., "head": ..., and one entry a head of the objective}.
      batch_stats: the running averages by the same names, where a network has batch norm.

    Args:
      encoder: its backbone and projection head are the networks "backbone" and "head".
      heads: further networks by name, called as `head(*inputs, train, num_views)` with inputs [b * v, ...].
      params: as the attribute.
      batch_stats: as the attribute, before.
      train: normalise by the batch's statistics; False: by the running averages, which then stay as they are.
      remat: recompute the backbone's activations in the backward pass.
      key: makes the parameters of a head that has none when it is first applied, and running averages stay as they
        are; None where all parameters must be there.
    """

    def __init__(
        self,
        encoder: Encoder,
        heads: Mapping[str, nn.Module],
        params: Variables,
        batch_stats: Variables,
        *,
        train: bool = True,
        remat: bool = False,
        key: jax.Array | None = None,
    ):
        self.params: dict[str, Any] = dict(params)
        self.batch_stats: dict[str, Any] = dict(batch_stats)
        self._encoder = encoder
        self._heads = heads
        self._train = train
        self._remat = remat
        self._key = key

    def features(self, views: jax.Array) -> jax.Array:
        """Images [v, b, h, w, 3] through the backbone: [v, b, w]."""
        if not self._train:
            return self._apply("backbone", self._encoder.backbone, views)
        features, batch_stats = encode_views(
            self._encoder.backbone, self._variables("backbone"), views, remat=self._remat
        )
        self._keep("backbone", batch_stats)
        return features

    def project(self, features: jax.Array) -> jax.Array:
        """Features [v, b, w] through the projection head: [v, b, d], not yet on the sphere."""
        return self._apply("head", self._encoder.head, features)

    def apply(self, name: str, *inputs: jax.Array) -> jax.Array:
        """Inputs [v, b, ...] through the head of that name."""
        if name not in self.params and self._key is not None:
            # By its name, so that a head's parameters do not depend on what other heads there are.
            key = jax.random.fold_in(self._key, zlib.crc32(name.encode()))
            created = self._heads[name].init(key, *map(to_rows, inputs), True, len(inputs[0]))
            self.params[name] = created["params"]
            if "batch_stats" in created:
                self.batch_stats[name] = created["batch_stats"]
        return self._apply(name, self._heads[name], *inputs)

    def frozen(self, variables: Variables, *, train: bool) -> "Networks":
        """The encoder with other parameters, {"params": ..., "batch_stats": ...}: a momentum encoder, say."""
        return Networks(self._encoder, {}, variables["params"], variables["batch_stats"], train=train)

    def _apply(self, name: str, module: nn.Module, *inputs: jax.Array) -> jax.Array:
        num_views = len(inputs[0])
        rows = tuple(map(to_rows, inputs))
        if not self._train:
            fixed: Any = module.apply(self._variables(name), *rows, False, num_views)
            return to_views(fixed, num_views)
        outputs, updates = module.apply(self._variables(name), *rows, True, num_views, mutable=["batch_stats"])
        self._keep(name, updates.get("batch_stats", {}))
        return to_views(outputs, num_views)

    def _variables(self, name: str) -> dict[str, Any]:
        return {"params": self.params[name], "batch_stats": self.batch_stats.get(name, {})}

    def _keep(self, name: str, batch_stats: Variables) -> None:
        if batch_stats and self._key is None:  # what makes the parameters is no batch
            self.batch_stats[name] = batch_stats
