"""How much of what was drawn can be read from pairs of embeddings: before the augmentation, and after."""

import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from care_jax import augment
from care_jax.augment import AugmentSpec, CloudSpec, sample_cloud
from care_jax.augment.augmentation import box_fractions
from care_jax.evaluate.embedded import EmbeddedDataSet, check_rows
from care_jax.evaluate.measure import SEVERAL, Measure, Missing, Numbers
from care_jax.metrics.parameters import parameters_explained

_SEED = 2  # Beside evaluate.seed: these are other draws than those that all images share.
_FEWEST = 4  # test images: two to fit to, two to judge.
_MOST = 4096  # test images, the first ones: a network of more takes minutes.
_ROWS, _REPEATED = 2048, 8  # Of fewer images each has several draws, up to so many, for that many pairs in all.
_WIDEST = 2048  # dimensions, for the same reason.
_MEANING = (
    "mean over the drawn parameters (box of the crop, flip, factors of the jitter, turn of the hue, gray, blur, ...; "
    "the nine numbers of a cloud's rotation, its factor) of R^2 = 1 - sum (y - g(f(x), f(ax)))^2 / sum (y - mean y)^2, "
    "g {} fitted on one half of the test images, judged on the other, both ways; every image has draws of its own of "
    f"the equivariance branch, so many that there are {_ROWS:,} pairs, but {_REPEATED} at most; of the first {_MOST:,}"
)
_ALIKE = Missing("every drawn parameter is the same for all test images of a half")
_KINDS: dict[str, tuple[Literal["linear", "mlp"], str, str]] = {
    "parameters_explained_linear": ("linear", "ridge regression", "parameters explained, linear"),
    "parameters_explained_mlp": ("mlp", "a network of one hidden layer", "parameters explained, network"),
}
_MEASURES = {
    name: Measure(
        _MEANING.format(what),
        better="higher",
        chance="0: no more than the mean; below 0 where too few images are fitted to",
        heading=heading,
    )
    for name, (_, what, heading) in _KINDS.items()
}


def measures(labellings: Iterable[str]) -> dict[str, Measure]:
    """The same whatever is labelled."""
    del labellings
    return _MEASURES


def run(embedded: EmbeddedDataSet, settings: Any) -> Numbers:
    """Both regressions, of the same pairs; a DataError where an image can't be read for one of them."""
    test, spec = embedded.part("test"), embedded.experiment.plan.equivariance
    n, d = test.embeddings[:_MOST].shape
    if n < _FEWEST:
        few = SEVERAL if n == 1 else Missing(f"needs at least {_FEWEST} test images, there are {n}")
        return dict.fromkeys(_MEASURES, few)
    if d > _WIDEST:
        return dict.fromkeys(_MEASURES, Missing(f"regressions of {d:,} dimensions take too long; {_WIDEST:,} do not"))
    examples, repeated = embedded.experiment.dataset.test, min(-(-_ROWS // n), _REPEATED)
    key = jax.random.fold_in(jax.random.key(settings.seed), _SEED)
    uniforms = np.asarray(augment.draw_uniforms(key, (repeated, n), spec))
    rows = uniforms.reshape(repeated * n, -1)
    if isinstance(spec, CloudSpec):
        drawn = varying_clouds(spec, rows)
    else:
        drawn = varying(spec, rows, examples.pixels.shape[1] if examples.resident else embedded.embedder.side)
    if not drawn:
        return dict.fromkeys(_MEASURES, Missing("augment.equivariance draws nothing"))
    shown = examples.take(test.rows[:_MOST])
    made = [embedded.embedder(embedded.variables, shown, draws, spec) for draws in uniforms]
    for one in made:
        check_rows(one.rows, np.arange(n), shown)
    before, after = np.tile(test.embeddings[:_MOST], (repeated, 1)), np.concatenate([one.embeddings for one in made])
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        return dict.fromkeys(_MEASURES, math.nan)
    images = np.tile(np.arange(n), repeated)
    found: Numbers = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of scikit-learn: a network that still learns at its last step
        for name, (kind, _, _) in _KINDS.items():
            shares = parameters_explained(
                before, after, drawn, inputs=images, kind=kind, seed=settings.seed, bootstraps=1
            )
            known = [share.mean for share in shares.values() if share is not None]
            found[name] = float(np.mean(known)) if known else _ALIKE
    return found


def varying(spec: AugmentSpec, uniforms: np.ndarray, side: int) -> dict[str, np.ndarray]:
    """What is drawn, by name, as numbers that a regression can reach: those that are not the same in all rows.

    Turns through more than half of the circle, of hues and of images, are their sine and cosine; sizes and factors are
    logarithms.

    Args:
      spec: the ranges.
      uniforms: [n, K].
      side: of the images, pixels.

    Returns:
      Each [n] float64.
    """
    drawn = augment.sample(uniforms, spec, height=side, width=side)
    top, left, height, width = (np.asarray(part, np.float64) for part in box_fractions(drawn, height=side, width=side))
    found = {
        "crop_y": top + height / 2,
        "crop_x": left + width / 2,
        "crop_height": np.log(height),
        "crop_width": np.log(width),
        "flip": drawn.flip,
        "grayscale": drawn.grayscale,
        "blur_sigma": drawn.blur_sigma,
        "solarize": drawn.solarize,
        "shift_y": drawn.shift_y,
        "shift_x": drawn.shift_x,
    }
    for name in ("brightness", "contrast", "saturation"):
        found[name] = np.log(np.maximum(np.asarray(getattr(drawn, name), np.float64), 1e-3))
    for name, angle, half in (
        ("hue", 2 * np.pi * np.asarray(drawn.hue, np.float64), spec.hue > 0.25),
        ("angle", np.asarray(drawn.angle, np.float64), spec.rotation_degrees > 90),
    ):
        found |= {f"{name}_sine": np.sin(angle), f"{name}_cosine": np.cos(angle)} if half else {name: angle}
    further = np.asarray(drawn.further, np.float64)
    found |= {f"further_{number}": further[:, number] for number in range(further.shape[1])}
    return _varying(found)


def varying_clouds(spec: CloudSpec, uniforms: np.ndarray) -> dict[str, np.ndarray]:
    """The same of clouds: the nine numbers of the rotation, and the logarithm of the factor; rows [n, K]."""
    drawn = sample_cloud(jnp.asarray(uniforms), spec)
    found = {f"rotation_{row}{column}": drawn.rotation[:, row, column] for row in range(3) for column in range(3)}
    return _varying(found | {"scale": np.log(np.asarray(drawn.scale, np.float64))})


def _varying(found: Mapping[str, Any]) -> dict[str, np.ndarray]:
    columns = {name: np.asarray(column, np.float64) for name, column in found.items()}
    return {name: column for name, column in columns.items() if np.ptp(column) > 0}
