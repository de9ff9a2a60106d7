"""How nearly an augmentation acts as the equivariance term asks, on the vectors that the term asks it of."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from care_jax import metrics
from care_jax.evaluate import equivariance_error, motion
from care_jax.evaluate.embedded import EmbeddedDataSet
from care_jax.evaluate.measure import SEVERAL, Measure, Numbers
from care_jax.methods import Space
from care_jax.models import normalize

_SAME = ("wahba_mean", "displacement_mean", "relative_equivariance_median")
_SHARE = "rotation_share_explained"
_NO_SHARE = "0 where their mean is 0, more where it is not; below 0: too few images for so many dimensions"
_BEGINS = {"backbone": "features", "head": ""}  # a network -> how its measures begin; "head" for one of the term's own


def measures(labellings: Iterable[str]) -> dict[str, Measure]:
    """Those of the features, of a head of the term's own, and of another group than O(d)."""
    usual = equivariance_error.measures(labellings) | motion.measures(labellings)
    return {
        f"{begins}_{name}": usual[name]._replace(
            meaning=f"{name} of the unit {of}, where the term acts on them",
            heading=f"{begins}: {usual[name].heading}",
            chance=_NO_SHARE if name == _SHARE else usual[name].chance and f"{begins}_{usual[name].chance}",
            headline=False,
        )
        for begins, of in (("features", "features"), ("head", "outputs of a head of its own"))
        for name in (*_SAME, _SHARE)
    } | {
        "group_residual_mean": Measure(
            "where the term asks for another group than O(d): min over its members R of |F R' - Fa| / sqrt(n) for the "
            "vectors that the group acts on, mean over draws; a local minimum found from good starts: an upper bound",
            better="lower",
            chance="group_displacement_mean: no member explains anything",
            heading="left by the group",
            decimals=4,
        ),
        "group_displacement_mean": Measure(
            "|F - Fa| / sqrt(n) of these vectors, mean over draws", heading="displacement in its space", decimals=4
        ),
    }


def run(embedded: EmbeddedDataSet, settings: Any) -> Numbers:
    """What the term asks for, where it asks for it; nothing for rotations of the projection, the usual measures."""
    term = embedded.experiment.objective.term
    if term is None or term.space is None:
        return {}
    space, numbers = term.space, Numbers()
    begins = _BEGINS.get(space.network, "head")
    if begins:
        there = embedded.outputs(space.network, normalize)
        usual = equivariance_error.run(there, settings)
        numbers |= {f"{begins}_{name}": usual[name] for name in _SAME}
        numbers[f"{begins}_{_SHARE}"] = motion.rotation_share(there, settings)
        embedded.notes += there.notes
    return numbers | (_of_group(embedded, settings, space) if space.form else {})


def _of_group(embedded: EmbeddedDataSet, settings: Any, space: Space) -> Numbers:
    assert space.form
    outputs = embedded.outputs(space.network, space.points)
    points = outputs.part("test").embeddings
    form = space.form(points.shape[1])
    residual = jax.jit(metrics.group_residual)
    scale = len(points) ** -0.5
    errors, displacements = [], []
    for draw in equivariance_error.draws(embedded, settings):
        moved = outputs.drawn(draw, "equivariance")
        # As Wahba's error, that of a single example says nothing.
        if len(points) > 1:
            errors.append(float(residual(points, moved, form=form)[1]) * scale)
        displacements.append(float(np.linalg.norm(moved - points)) * scale)
    return {
        "group_residual_mean": float(np.mean(errors)) if errors else SEVERAL,
        "group_displacement_mean": float(np.mean(displacements)),
    }
