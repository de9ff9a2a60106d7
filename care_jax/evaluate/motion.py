"""How much of what an augmentation does to embeddings one rotation explains, on images that it was not fitted to."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from care_jax.augment import NUM_UNIFORMS, image_spec
from care_jax.augment.sample import SLOTS
from care_jax.evaluate import equivariance_error
from care_jax.evaluate.embedded import EmbeddedDataSet
from care_jax.evaluate.equivariance_error import MAX_PAIRWISE
from care_jax.evaluate.measure import SEVERAL, Measure, Missing, Numbers
from care_jax.evaluate.retrieval import share_following
from care_jax.metrics import motion

_HUE = "hue"  # The labelling whose classes are equal parts of the hue circle, in its order.
_HUE_QUERIES = 512
_HUE_NEIGHBOURS = 5
_COMPOSITIONS = 4  # Each embeds the test images once more.
_FEWEST = 4  # test images: two to fit to, two to judge.
_MOST = 10_000  # test images, the first ones: the interval of so many is narrow, and draws of all need not fit memory.
_WIDE, _WIDEST = 256, 2048  # dimensions: from here on fewer draws, as the SVD of one takes d^3; none beyond.
_STILL = Missing("no drawn augmentation moves any embedding")

_SHARE = (
    "1 - sum |A f(x) - f(ax)|^2 / sum |f(x) - f(ax)|^2 over the test images of one half and all draws a, A the best {} "
    "of a draw for the other half, both ways"
)
_MEASURES = {
    "rotation_share_explained": Measure(
        "share of the motion that one rotation explains: " + _SHARE.format("rotation, in SO(d),"),
        better="higher",
        chance="rotation_share_permuted; below 0: too few images to fit a rotation of d dimensions",
        heading="share explained by a rotation",
        headline=True,
    ),
    "rotation_share_explained_low": Measure(
        "lower end of its 95 % interval: bootstrap of the test images, rotations as they are"
    ),
    "rotation_share_explained_high": Measure("upper end of that interval"),
    "rotation_share_permuted": Measure(
        "its null value: the same where, within each half, every image has the f(ax) of another; what a rotation "
        "explains by the mean of the embeddings alone",
        heading="share explained, pairs permuted",
    ),
    "rotation_share_centred": Measure(
        "the same of embeddings less their mean over the half that is fitted on, f and fa each less its own: what a "
        "rotation explains beyond the motion of the mean",
        better="higher",
        chance="0",
        heading="share explained, centred",
    ),
    "orthogonal_share_explained": Measure(
        _SHARE.format("orthogonal map, in O(d): rotation or reflection,"),
        better="higher",
        chance="rotation_share_permuted",
        heading="share explained in O(d)",
    ),
    "linear_share_explained": Measure(
        _SHARE.format("linear map"),
        better="higher",
        chance="linear_share_permuted",
        heading="share explained by a linear map",
    ),
    "linear_share_permuted": Measure(
        "its null value, pairs permuted: about half, for a linear map can also shrink what it can't predict",
        heading="linear share, pairs permuted",
    ),
    "relative_equivariance_permuted": Measure(
        "null value of relative_equivariance_median: the median where every image has the f(ax) of another; unit "
        "vectors that are spread out in many dimensions have a low one",
        heading="relative equivariance, pairs permuted",
        decimals=4,
    ),
    "composition_error": Measure(
        f"sqrt(sum |R_b R_a f(x) - f(bax)|^2 / sum |f(bax)|^2) over up to {_COMPOSITIONS} pairs of draws a, b, "
        "rotations fitted on one half of the test images and judged on the other, both ways",
        better="lower",
        chance="sqrt(2): unrelated vectors",
        heading="composition error",
    ),
    "follow_mean_reciprocal_rank": Measure(
        "mean over test images and draws of 1 / rank of f(ax) among the f(ax') of the images x' of one half, by "
        f"distance from R f(x), R fitted on the other half; of the first {MAX_PAIRWISE:,}",
        better="higher",
        chance="(1 + 1/2 + ... + 1/m) / m, m half of the images; high too where displacement_mean is small",
        heading="follow, mean reciprocal rank",
    ),
    "follow_hit_at_1": Measure(
        "share of them with rank 1",
        better="higher",
        chance="1 / m; high too where displacement_mean is small",
        heading="follow, hit at 1",
    ),
}
_FOLLOW = {
    "hue_follow": Measure(
        f"of the {_HUE_NEIGHBOURS} test images nearest in cosine of the embeddings to a test image whose hue is turned "
        "by a third of the circle, in whole classes, those with the new hue's class; up to "
        f"{_HUE_QUERIES} images are turned",
        unit="%",
        better="higher",
        chance="100 / number of hue classes",
        heading="neighbours that follow the hue",
        decimals=1,
    )
}


def measures(labellings: Iterable[str]) -> dict[str, Measure]:
    """The same whatever is labelled, and one more where the hue is."""
    return _MEASURES | (_FOLLOW if _HUE in labellings else {})


def run(embedded: EmbeddedDataSet, settings: Any) -> Numbers:
    """All of them, of the draws and the embeddings that `equivariance_error` has; compositions are embedded beside."""
    numbers = _of_draws(embedded, settings)
    if _HUE in embedded.labellings and not embedded.experiment.dataset.clouds:
        numbers["hue_follow"] = hue_follow(embedded) if len(embedded.part("test").rows) > 1 else SEVERAL
    return numbers


def hue_follow(embedded: EmbeddedDataSet) -> float:
    """Percent of the neighbours of an image of turned hue that have the new hue; as the table says it."""
    dataset, test = embedded.experiment.dataset, embedded.part("test")
    num_classes = dataset.num_classes[_HUE]
    classes = round(num_classes / 3)
    spec = dataclasses.replace(image_spec(embedded.embedder.spec), jitter_probability=1.0, hue=0.5)
    uniforms = np.zeros(NUM_UNIFORMS, np.float32)
    uniforms[SLOTS["hue"]] = 0.5 + classes / num_classes  # of [-1/2, 1/2) turns
    chosen = np.unique(np.linspace(0, len(test.rows) - 1, _HUE_QUERIES).astype(int))
    turned = embedded.embedder(embedded.variables, dataset.test.take(test.rows[chosen]), uniforms, spec)
    labels = dataset.test.labels[_HUE][test.rows]
    own = chosen[turned.rows]
    if not (np.isfinite(turned.embeddings).all() and np.isfinite(test.embeddings).all()):
        return math.nan
    wanted = (labels[own] + classes) % num_classes
    return 100.0 * share_following(turned.embeddings, test.embeddings, own, labels, wanted, k=_HUE_NEIGHBOURS)


def rotation_share(embedded: EmbeddedDataSet, settings: Any) -> float | Missing:
    """`rotation_share_explained` alone; NaN of broken embeddings."""
    pair = _before_and_after(embedded, settings)
    if isinstance(pair, Missing | float):
        return pair
    share = motion.share_explained(*pair, bootstraps=1)
    return _STILL if share is None else share.mean


def _of_draws(embedded: EmbeddedDataSet, settings: Any) -> Numbers:
    pair = _before_and_after(embedded, settings)
    if isinstance(pair, Missing | float):
        return dict.fromkeys(_MEASURES, pair)
    composition = _composition(embedded, equivariance_error.draws(embedded, settings), len(pair[1]))
    return _shares(*pair) | _pairwise(*pair) | {"composition_error": composition}


def _before_and_after(
    embedded: EmbeddedDataSet, settings: Any
) -> tuple[np.ndarray, list[np.ndarray]] | Missing | float:
    """Embeddings [n, d] of test images and, of each draw, [n, d]; NaN where some are broken."""
    before, draws = embedded.part("test").embeddings[:_MOST], equivariance_error.draws(embedded, settings)
    n, d = before.shape
    if n < _FEWEST:
        return SEVERAL if n == 1 else Missing(f"needs at least {_FEWEST} test images, there are {n}")
    if d > _WIDEST:
        return Missing(f"rotations of {d:,} dimensions take too long; up to {_WIDEST:,} do")
    count = len(draws) if d <= _WIDE else max(1, min(len(draws), round(len(draws) * (_WIDE / d) ** 3)))
    note = f"rotations of {d:,} dimensions: their shares explained are of the first {count} of {len(draws)} draws"
    if count < len(draws) and note not in embedded.notes:
        embedded.notes.append(note)
    after = [embedded.drawn(draw, "equivariance")[:_MOST].copy() for draw in draws[:count]]
    finite = all(np.isfinite(embeddings).all() for embeddings in (before, *after))
    return (before, after) if finite else math.nan


def _shares(before: np.ndarray, after: list[np.ndarray]) -> Numbers:
    rotation = motion.share_explained(before, after)
    if rotation is None:
        return dict.fromkeys((name for name in _MEASURES if "_share_" in name), _STILL)
    numbers: Numbers = {
        "rotation_share_explained": rotation.mean,
        "rotation_share_explained_low": rotation.low,
        "rotation_share_explained_high": rotation.high,
    }
    others: dict[str, tuple[motion.Kind, bool, bool]] = {
        "rotation_share_permuted": ("rotation", True, False),
        "rotation_share_centred": ("rotation", False, True),
        "orthogonal_share_explained": ("orthogonal", False, False),
        "linear_share_explained": ("linear", False, False),
        "linear_share_permuted": ("linear", True, False),
    }
    for name, (kind, permuted, centred) in others.items():
        share = motion.share_explained(before, after, kind=kind, permuted=permuted, centred=centred, bootstraps=1)
        numbers[name] = _STILL if share is None else share.mean
    return numbers


def _pairwise(before: np.ndarray, after: list[np.ndarray]) -> Numbers:
    few, few_after = before[:MAX_PAIRWISE], [embeddings[:MAX_PAIRWISE] for embeddings in after]
    gamma = motion.relative_equivariance_quantiles(few, few_after, (0.5,))
    found = motion.follow_prediction(few, few_after, hits=(1,), bootstraps=1)
    return {
        "relative_equivariance_permuted": gamma.permuted[0.5],
        **{f"follow_{name}": estimate.mean for name, estimate in found.items()},
    }


def _composition(embedded: EmbeddedDataSet, draws: np.ndarray, count: int) -> float | Missing:
    """Of the draws 0 and 1, 2 and 3, ..., of the first `count`, or of the first two."""
    pairs = [tuple(draws[first : first + 2]) for first in range(0, max(count, 2) - 1, 2)][:_COMPOSITIONS]
    if len(draws) < 2:
        return Missing("needs evaluate.num_augmentations of 2 or more")
    first, second = ([embedded.drawn(pair[which], "equivariance")[:_MOST] for pair in pairs] for which in (0, 1))
    both = [embedded.drawn(a, "equivariance", then=b)[:_MOST] for a, b in pairs]
    if not all(np.isfinite(embeddings).all() for embeddings in (*first, *second, *both)):
        return math.nan
    if not any(embeddings.any() for embeddings in both):
        return Missing("the embeddings are all zero")
    before = embedded.part("test").embeddings[:_MOST]
    return motion.composition(before, first, second, both, bootstraps=1).mean
