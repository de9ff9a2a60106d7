"""What linear regressions read from the embeddings of turned clouds: directions that turn too, sizes that do not."""

import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from care_jax import augment
from care_jax.augment import CloudSpec, sample_cloud
from care_jax.data import Examples
from care_jax.evaluate.embedded import EmbeddedDataSet
from care_jax.evaluate.measure import Measure, Missing, Numbers
from care_jax.metrics.clouds import first_principal_component, radius_of_gyration
from care_jax.metrics.directions import direction_error, predicted_axes, predicted_directions, ridge

_SEED = 3  # Beside evaluate.seed: apart from the draws of other evaluators.
_TURNS = 4  # of each cloud
_MOST = 2048  # clouds of each part, evenly spaced
_ALIKE = 1e-5  # sizes that differ by this share are equal but for the rounding of the coordinates
_WIDEST = 4096  # numbers that are regressed on: the regression takes their third power
_OF = {
    "": "of the embeddings",
    "features_": "of the features, before the projection head",
}
_HOW = (
    f"fitted on the training clouds, each turned by {_TURNS} rotations of its own, uniform over SO(3); mean over the "
    f"test clouds, turned likewise; of up to {_MOST:,} clouds of each part"
)
_ONE_RADIAN = "57.3: a direction that is drawn"
_AXIS = (
    "angle between the first principal component v of a cloud, of no sign, and the first eigenvector of what a ridge "
    "regression {} makes of the matrix v v', which has none; " + _HOW
)
_DIRECT = (
    "the same angle, v itself regressed, each sign the one that the regression so far is nearer to, until none changes "
    "(at first the one that makes the third moment along v positive)"
)
_SIZE = (
    "R^2 = 1 - sum (y - g)^2 / sum (y - mean y)^2 of {}, g a ridge regression {}; rotations and parts as of the angle"
)


def _measures() -> dict[str, Measure]:
    found: dict[str, Measure] = {}
    for begins, of in _OF.items():
        first = not begins
        found |= {
            f"{begins}principal_component_error": Measure(
                _AXIS.format(of),
                "degrees",
                better="lower",
                chance=_ONE_RADIAN,
                heading=f"principal component{'' if first else ', features'}",
                decimals=1,
                headline=first,
            ),
            f"{begins}principal_component_direct_error": Measure(
                f"{_DIRECT}; {of}",
                "degrees",
                better="lower",
                chance=_ONE_RADIAN,
                heading=f"principal component, direct{'' if first else ', features'}",
                decimals=1,
            ),
            f"{begins}radius_of_gyration_explained": Measure(
                _SIZE.format("the radius of gyration", of),
                better="higher",
                chance="0",
                heading=f"radius of gyration{'' if first else ', features'}",
            ),
            f"{begins}number_of_points_explained": Measure(
                _SIZE.format("the number of points", of),
                better="higher",
                chance="0",
                heading=f"number of points{'' if first else ', features'}",
            ),
        }
    return found


_MEASURES = _measures()


def measures(labellings: Iterable[str]) -> dict[str, Measure]:
    """The same whatever is labelled; only clouds of points have them."""
    del labellings
    return _MEASURES


def run(embedded: EmbeddedDataSet, settings: Any) -> Numbers:
    """All of them; none of images."""
    dataset = embedded.experiment.dataset
    if not dataset.clouds:
        return {}
    parts = [_spaced(examples) for examples in (dataset.train, dataset.test)]
    keys = jax.random.split(jax.random.fold_in(jax.random.key(settings.seed), _SEED))
    turns = [
        np.asarray(augment.draw_uniforms(key, (_TURNS, len(part)), _TURNED))
        for key, part in zip(keys, parts, strict=True)
    ]
    seen = [
        [embedded.embedder(embedded.variables, part, uniforms, _TURNED) for uniforms in drawn]
        for part, drawn in zip(parts, turns, strict=True)
    ]
    targets = [_targets(part, drawn) for part, drawn in zip(parts, turns, strict=True)]
    numbers: Numbers = {}
    for begins in _OF:
        points = [
            np.concatenate([one.features.numpy() if begins else one.embeddings for one in turned]) for turned in seen
        ]
        numbers |= {f"{begins}{name}": value for name, value in _of_points(points, targets).items()}
    return numbers


_TURNED = CloudSpec(rotation=True)


def _spaced(examples: Examples) -> Examples:
    if len(examples) <= _MOST:
        return examples
    return examples.take(np.unique(np.linspace(0, len(examples) - 1, _MOST).astype(int)))


def _targets(part: Examples, drawn: np.ndarray) -> dict[str, np.ndarray]:
    """Of each turn of each cloud, [turns * n, ...]."""
    points, mask = part.pixels[..., :3], part.pixels[..., 3] > 0
    component = signed_component(points, mask)
    rotations = np.asarray(sample_cloud(jnp.asarray(drawn), _TURNED).rotation, np.float64)  # [turns, n, 3, 3]
    return {
        "component": np.einsum("tnij,nj->tni", rotations, component).reshape(-1, 3),
        "radius": np.tile(radius_of_gyration(points, mask), len(drawn)),
        "count": np.tile(mask.sum(axis=1).astype(np.float64), len(drawn)),
    }


def signed_component(points: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`first_principal_component`, of the sign that makes the third moment of the points along it positive, [n, 3]."""
    found = first_principal_component(points, mask)
    centre = np.where(mask[..., None], points, 0).sum(axis=1) / mask.sum(axis=1)[:, None]
    along = np.einsum("nld,nd->nl", points - centre[:, None], found) * mask
    return found * np.where((along**3).sum(axis=1) < 0, -1.0, 1.0)[:, None]


def _of_points(points: list[np.ndarray], targets: list[dict[str, np.ndarray]]) -> Numbers:
    """Regressions of the targets on points [m, d] of the training clouds, judged on those of the test clouds."""
    names = [name.removeprefix("features_") for name in _MEASURES if name.startswith("features_")]
    train, test = points
    if train.shape[1] > _WIDEST:
        return dict.fromkeys(names, Missing(f"regressions on {train.shape[1]:,} numbers take too long"))
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        return dict.fromkeys(names, math.nan)
    numbers: Numbers = {}
    defined = [np.isfinite(target["component"]).all(axis=1) for target in targets]
    if not all(rows.any() for rows in defined):
        none = Missing("no cloud has a direction in which its points vary most")
        numbers |= dict.fromkeys(names[:2], none)
    else:
        fitted, judged = (target["component"][rows] for target, rows in zip(targets, defined, strict=True))
        shown = train[defined[0]], test[defined[1]]
        for name, predict in zip(names[:2], (predicted_axes, predicted_directions), strict=True):
            numbers[name] = direction_error(predict(shown[0], fitted, shown[1]), judged)
    whats = {"radius": "the radius of gyration", "count": "the number of points"}
    for name, (target, what) in zip(names[2:], whats.items(), strict=True):
        numbers[name] = _explained(what, train, targets[0][target], test, targets[1][target])
    return numbers


def _explained(
    what: str, train: np.ndarray, fitted: np.ndarray, test: np.ndarray, judged: np.ndarray
) -> float | Missing:
    if any(np.ptp(values) <= _ALIKE * np.abs(values).max() for values in (fitted, judged)):
        return Missing(f"{what} is the same for all clouds of a part, {judged[0]:g}")
    spread = np.square(judged - judged.mean()).sum()
    return float(1.0 - np.square(judged - ridge(train, fitted[:, None], test)[:, 0]).sum() / spread)
