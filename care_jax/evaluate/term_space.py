"""Measures of the vectors that the equivariance term acts on, where these are not the embeddings on the sphere."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import linen

from care_jax import metrics
from care_jax.evaluate.embed import Embedder
from care_jax.evaluate.equivariance_error import draws, measure_equivariance
from care_jax.experiment.build import Experiment, evaluation_spec
from care_jax.methods.care import GROUPS


class Moved(linen.Module):
    """Images to the vectors that an augmentation should move; called as an encoder is.

    Attributes:
      backbone: images -> features.
      head: features -> what the term acts on; None: the features themselves.
      group: of the term; "lorentz" has its vectors on the hyperboloid, the others on the sphere.
    """

    backbone: linen.Module
    head: linen.Module | None
    group: str

    @linen.compact
    def __call__(self, images: jax.Array, train: bool = False, num_views: int = 1) -> tuple[jax.Array, jax.Array]:
        """Features and vectors, [b, w] and [b, m]."""
        features = self.backbone(images, train, num_views)
        moved = features if self.head is None else self.head(features, train, num_views)
        return features, GROUPS[self.group].points(moved)


def measure_moved(experiment: Experiment, variables: Mapping[str, Any]) -> dict[str, float]:
    """What the term asks for, where it asks for it; nothing for a term on the projection with rotations.

    Args:
      experiment: its settings, its held-out images.
      variables: parameters and statistics to judge, the heads' too.

    Returns:
      For a term on the features or on its own head, `features_...` or `head_...`: `wahba_mean`, `displacement_mean`
      and `relative_equivariance_median` of unit vectors. For another group than O(d), `group_residual_mean` and
      `group_displacement_mean`: the same as Wahba's error and displacement, for the best member of that group found.
      NaN where a single held-out image has none.
    """
    config = experiment.config
    settings = config.equivariance
    term = experiment.objective.term
    if term is None or term.name != "care" or (settings.on, settings.group) == ("projection", "orthogonal"):
        return {}
    # Which of the parameters are the head's, and the head that has them.
    name, head = {
        "projection": ("head", experiment.encoder.head),
        "features": ("", None),
        "head": ("equivariance_head", term.heads.get("equivariance_head")),
    }[settings.on]

    def part(collection: str) -> dict[str, Any]:
        found = variables.get(collection, {})
        return {to: found[source] for to, source in (("backbone", "backbone"), ("head", name)) if source in found}

    numbers: dict[str, float] = {}
    groups = ["orthogonal"] * (settings.on != "projection") + [settings.group] * (settings.group != "orthogonal")
    for group in groups:
        embedder = Embedder(
            Moved(experiment.encoder.backbone, head, group),
            experiment.mesh,
            evaluation_spec(config),
            batch_size=config.evaluate.batch_size,
            skipped=experiment.dataset.skipped,
        )
        of_these = {"params": part("params"), "batch_stats": part("batch_stats")}
        numbers |= _of_group(experiment, embedder, of_these, group)
    return numbers


def _of_group(experiment: Experiment, embedder: Embedder, variables: Mapping[str, Any], group: str) -> dict[str, float]:
    settings, test = experiment.config.evaluate, experiment.dataset.test
    spec = experiment.plan.equivariance
    on = experiment.config.equivariance.on
    if group == "orthogonal":
        measured = measure_equivariance(
            embedder, variables, test, spec, num_augmentations=settings.num_augmentations, seed=settings.seed
        )
        return {
            f"{on}_wahba_mean": float(measured.wahba.mean()),
            f"{on}_displacement_mean": float(measured.displacement.mean()),
            f"{on}_relative_equivariance_median": measured.relative_median,
        }
    points = embedder(variables, test).embeddings
    form = GROUPS[group].form(points.shape[1])
    residual = jax.jit(metrics.group_residual)
    scale = len(points) ** -0.5
    errors, displacements = [], []
    for draw in draws(settings.num_augmentations, settings.seed):
        moved = embedder(variables, test, draw, spec).embeddings
        # As Wahba's error, that of a single example says nothing.
        errors.append(float(residual(points, moved, form=form)[1]) * scale if len(points) > 1 else math.nan)
        displacements.append(float(np.linalg.norm(moved - points)) * scale)
    return {"group_residual_mean": float(np.mean(errors)), "group_displacement_mean": float(np.mean(displacements))}
