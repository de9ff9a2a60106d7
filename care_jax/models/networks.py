"""The networks of a training step: the encoder, and the heads that an objective trains beside it."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from care_jax.models.encoder import Encoder, Variables, encode_views


class Networks(nn.Module):
    """Applies networks to views [v, b, ...], each view with batch statistics of its own.

    A linen module without a `__call__`: `apply(variables, ..., method=function, mutable=["batch_stats"])` hands it to a
    function, as `networks`, and returns the running averages with all the views that the function passed through.

    Attributes:
      backbone: images -> features.
      head: features -> projections.
      heads: further networks by name, called as `head(*inputs, train, num_views)` with inputs [b * v, ...].
      train: normalise by the batch's statistics; False: by the running averages, which then stay as they are.
      remat: recompute the backbone's activations in the backward pass.

    Its variables are {"backbone": ..., "head": ..., and one entry a further network}, by the networks' own names.
    """

    backbone: nn.Module
    head: nn.Module
    heads: Mapping[str, nn.Module]
    train: bool = True
    remat: bool = False

    preserve_adopted_names = True  # linen's: the heads' names are theirs, without "heads_" before them

    @classmethod
    def of(cls, encoder: Encoder, heads: Mapping[str, nn.Module], *, remat: bool = False) -> "Networks":
        """The backbone and the head of an encoder, and further heads by name."""
        named = {name: head.clone(name=name) for name, head in heads.items()}
        return cls(encoder.backbone, encoder.head, named, remat=remat)

    def features(self, views: jax.Array) -> jax.Array:
        """Images [v, b, h, w, 3] through the backbone: [v, b, w]."""
        return encode_views(self.backbone, views, train=self.train, remat=self.remat)

    def project(self, features: jax.Array) -> jax.Array:
        """Features [v, b, w] through the projection head: [v, b, d], not yet on the sphere."""
        return encode_views(self.head, features, train=self.train)

    def through(self, name: str, *inputs: jax.Array) -> jax.Array:
        """Inputs [v, b, ...] through the head of that name."""
        return encode_views(self.heads[name], *inputs, train=self.train)

    def frozen(self, variables: Variables, *, train: bool) -> "Networks":
        """The encoder with other parameters, {"params": ..., "batch_stats": ...}: a momentum encoder, say."""
        unbound, _ = self.unbind()
        return unbound.clone(heads={}, train=train, remat=False).bind(variables, mutable=["batch_stats"])


def init_heads(
    networks: Networks, variables: Variables, key: jax.Array, function: Callable[..., Any]
) -> dict[str, Any]:
    """The variables of an encoder together with first ones of all heads.

    Args:
      networks: not bound.
      variables: of the encoder; they are not changed.
      key: of the heads' parameters, each by its name, whatever other heads there are.
      function: networks -> anything; passes inputs through each head, whose shapes its parameters have.

    Returns:
      {"params": ..., "batch_stats": ...}.
    """
    created: dict[str, Variables] = {}

    def create(call: Callable[..., Any], inputs: Any, options: Any, context: nn.module.InterceptorContext) -> Any:
        name = context.module.name or ""
        if not isinstance(context.module.parent, Networks) or name not in networks.heads:
            return call(*inputs, **options)
        own = jax.random.fold_in(key, zlib.crc32(name.encode()))
        outputs, created[name] = networks.heads[name].clone(name=None).init_with_output(own, *inputs, **options)
        return outputs

    with nn.intercept_methods(create):
        networks.apply(variables, method=function, mutable=["batch_stats"])
    return {
        collection: {**values, **{name: made[collection] for name, made in created.items() if collection in made}}
        for collection, values in variables.items()
    }
