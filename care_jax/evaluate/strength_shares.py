"""How much of the motion one rotation explains, of each augmentation by itself, the stronger it gets."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from care_jax.augment import CloudSpec, Drawn, Spec
from care_jax.data import Examples
from care_jax.evaluate import plots
from care_jax.evaluate.embed import Embedder
from care_jax.evaluate.strengths import augmentation, seen, spec_of, sweeps_of
from care_jax.metrics import motion
from care_jax.metrics.heldout import Estimate

MOST = 256  # inputs: one pass an augmentation and strength, 33 in all of images
WIDEST = 512  # dimensions: as many rotations, and each takes d^3
_BOOTSTRAPS = 200
_COLUMNS = 4

Shares = Mapping[str, Mapping[float, Estimate]]


def strength_shares(
    embedder: Embedder, variables: Mapping[str, Any], inputs: np.ndarray, embeddings: np.ndarray
) -> Shares:
    """The share that one rotation explains, fitted to half of the inputs and judged on the other, both ways.

    Args:
      embedder: of the encoder.
      variables: its parameters and statistics.
      inputs: images [n, s, s, 3] uint8, or clouds [n, L, 4], of which the first MOST are taken.
      embeddings: [n, d], of these.

    Returns:
      Augmentation -> strength -> share; nothing of fewer inputs than 4, more dimensions than WIDEST, or broken
      embeddings, and no strength that moves nothing.
    """
    inputs, before = inputs[:MOST], embeddings[:MOST]
    if len(inputs) < 4 or before.shape[1] > WIDEST or not np.isfinite(before).all():
        return {}
    sweeps = sweeps_of(inputs.ndim == 3)
    size = None if inputs.ndim == 3 else inputs.shape[1]
    enabled = [sweep.enabled(max(sweep.strengths), size or 0) for sweep in sweeps.values()]
    everything: dict[str, Any] = {name: one[name] for one in enabled for name in one}
    spec = dataclasses.replace(spec_of("", 0.0, size=size), **everything)
    found: dict[str, dict[float, Estimate]] = {}
    for name, sweep in sweeps.items():
        for strength in sweep.strengths:
            drawn = augmentation(name, jnp.full(len(inputs), strength), spec, shape=inputs.shape[1:])
            changed = np.asarray(_applied(inputs, drawn, spec))
            after = embedder(variables, Examples(images=changed)).embeddings
            share = motion.share_explained(before, after, bootstraps=_BOOTSTRAPS) if np.isfinite(after).all() else None
            if share is not None:
                found.setdefault(name, {})[strength] = share
    return found


# Of everything at once, so that one program serves all augmentations and strengths.
@partial(jax.jit, static_argnums=2)
def _applied(inputs: jax.Array, drawn: Drawn, spec: Spec) -> jax.Array:
    views = seen(drawn, inputs, spec)
    return views if isinstance(spec, CloudSpec) else jnp.round(255.0 * views).astype(jnp.uint8)


def picture(shares: Shares, *, clouds: bool = False) -> Figure | None:
    """A panel an augmentation: the share over the strength, with its 95 % interval; None of nothing.

    Args:
      shares: as `strength_shares` gives them.
      clouds: whether they are of clouds of points.
    """
    if not shares:
        return None
    rows = -(-len(shares) // _COLUMNS)
    figure, axes = plots.panels(rows, min(len(shares), _COLUMNS), width=2.5, height=2.1)
    panels = [axis for row in axes for axis in row]
    for axis, (name, of_strengths) in zip(panels, shares.items(), strict=False):
        estimates = list(of_strengths.values())
        low, mean, high = (
            [100 * max(getattr(share, part), -0.5) for share in estimates] for part in ("low", "mean", "high")
        )
        axis.axhline(0.0, color=plots.GRAY, linestyle="--", linewidth=1.2)
        axis.fill_between(list(of_strengths), low, high, color=plots.BLUE, alpha=0.2, linewidth=0)
        axis.plot(list(of_strengths), mean, color=plots.BLUE, marker="o", markersize=3.5)
        axis.set(title=name, ylim=(-55, 105), xlim=(0, None))
        axis.set_xlabel(sweeps_of(clouds)[name].meaning.partition(";")[0], fontsize=7.5)
    for row in axes:
        row[0].set_ylabel("motion explained, %")
    for axis in panels[len(shares) :]:
        axis.remove()
    return figure
