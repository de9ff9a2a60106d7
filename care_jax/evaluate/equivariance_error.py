"""How nearly an augmentation of the images is a rotation of their embeddings, over many drawn augmentations."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from care_jax import augment, losses, metrics
from care_jax.evaluate.embedded import EmbeddedDataSet
from care_jax.evaluate.measure import SEVERAL, Measure, Missing, Numbers

# Above this many examples the pairwise measures use the first ones: n^2 ratios of 20 augmentations must fit in memory.
MAX_PAIRWISE = 2048


_WAHBA = "min over R in {} of |F R' - Fa| / sqrt(n) (Frobenius): what the best {} leaves"
_MEASURES = {
    "wahba_mean": Measure(
        _WAHBA.format("SO(d)", "rotation") + ", mean over evaluate.num_augmentations draws; the paper's W is sqrt(n) "
        "times this",
        better="lower",
        chance="displacement_mean: no rotation explains anything",
        heading="Wahba, mean",
        decimals=4,
        headline=True,
    ),
    "wahba_worst": Measure("the same, worst of the draws", better="lower", heading="Wahba, worst", decimals=4),
    "wahba_orthogonal_mean": Measure(
        _WAHBA.format("O(d)", "rotation or reflection") + ", mean over draws",
        better="lower",
        heading="Wahba in O(d), mean",
        decimals=4,
    ),
    "wahba_orthogonal_worst": Measure("the same, worst of the draws", better="lower", decimals=4),
    "displacement_mean": Measure(
        "|F - Fa| / sqrt(n), mean over draws: how far an augmentation moves the embeddings; an invariant encoder moves "
        "nothing, and has no Wahba error",
        heading="displacement",
        decimals=4,
    ),
    "relative_equivariance_mean": Measure(
        "relative rotational equivariance, the ratio (|f(ax') - f(ax)|^2 - |f(x') - f(x)|^2)^2 / (|f(ax') - f(x')|^2 + "
        "|f(ax) - f(x)|^2)^2, mean over all pairs x, x' and all draws",
        better="lower",
        heading="relative equivariance, mean",
    ),
    "relative_equivariance_median": Measure(
        "its median over all pairs and draws: the steadier number, for the ratio has a heavy tail",
        better="lower",
        heading="relative equivariance, median",
        decimals=4,
        headline=True,
    ),
    "relative_equivariance_examples": Measure(f"behind these two: all, up to {MAX_PAIRWISE:,}", unit="test images"),
}


def measures(labellings: Iterable[str]) -> dict[str, Measure]:
    """The same whatever is labelled."""
    del labellings
    return _MEASURES


def run(embedded: EmbeddedDataSet, settings: Any) -> Numbers:
    """Means and worst over the draws of `measure`."""
    measured = embedded.once(measure, settings)

    def of_several(value: float) -> float | Missing:
        return float(value) if measured.num_examples > 1 else SEVERAL

    return {
        "wahba_mean": of_several(measured.wahba.mean()),
        "wahba_worst": of_several(measured.wahba.max()),
        "wahba_orthogonal_mean": of_several(measured.wahba_orthogonal.mean()),
        "wahba_orthogonal_worst": of_several(measured.wahba_orthogonal.max()),
        "displacement_mean": float(measured.displacement.mean()),
        "relative_equivariance_mean": of_several(measured.relative.mean()),
        "relative_equivariance_median": of_several(measured.relative_median),
        "relative_equivariance_examples": measured.num_pairwise,
    }


class Equivariance(NamedTuple):
    """One entry a drawn augmentation a; f is the embedding before, fa after.

    Of a single example, the Wahba errors (always 0: a rotation takes any direction to any other) and the relative
    equivariance, which is of pairs, are NaN.

    Attributes:
      displacement: root mean square of |fa - f|: how far the augmentation moved the embeddings.
      wahba: min over R in SO(d) of |F R' - Fa|, over sqrt(n): what the best rotation leaves of it.
      wahba_orthogonal: the same over O(d).
      relative: `metrics.relative_equivariance` of the pair.
      relative_median: median of its ratio over all pairs of all augmentations, one number.
      alignment: minus the mean cosine of f and fa.
      num_examples: n of the Wahba errors.
      num_pairwise: examples behind the relative equivariance, 0 where there is no pair.
    """

    displacement: np.ndarray
    wahba: np.ndarray
    wahba_orthogonal: np.ndarray
    relative: np.ndarray
    relative_median: float
    alignment: np.ndarray
    num_examples: int
    num_pairwise: int


@jax.jit
def pair(f: jax.Array, fa: jax.Array) -> dict[str, jax.Array]:
    """Displacement, Wahba errors and alignment of embeddings [n, d] before and after one augmentation."""
    scale = f.shape[0] ** -0.5
    return {
        "displacement": jnp.linalg.norm(f - fa) * scale,
        "wahba": metrics.wahba(f, fa)[1] * scale,
        "wahba_orthogonal": metrics.wahba(f, fa, special=False)[1] * scale,
        "alignment": losses.alignment(f, fa),
    }


_relative = jax.jit(metrics.relative_equivariance)
_ratios = jax.jit(metrics.relative_equivariance_ratios)


def draws(embedded: EmbeddedDataSet, settings: Any) -> np.ndarray:
    """Uniforms of the augmentations to measure, [settings.num_augmentations, K]."""
    spec = embedded.experiment.plan.equivariance
    return np.asarray(augment.draw_uniforms(jax.random.key(settings.seed), (settings.num_augmentations,), spec))


def measure(embedded: EmbeddedDataSet, settings: Any) -> Equivariance:
    """Draws augmentations, applies each to ALL test images, and compares the embeddings before and after.

    Args:
      embedded: what is judged; the draws are from the ranges of its equivariance branch.
      settings: `num_augmentations`, 20 in the paper's figure 5, and the `seed` of the draws, the same for runs that
        are to be compared.

    Returns:
      The measures, one entry an augmentation.
    """
    embeddings = embedded.part("test").embeddings
    rows: list[dict[str, Any]] = []
    ratios = []
    few = embeddings[:MAX_PAIRWISE]
    paired = len(few) > 1
    off_diagonal = ~np.eye(len(few), dtype=bool)
    for draw in draws(embedded, settings):
        moved = embedded.drawn(draw, "equivariance")
        row = dict(jax.device_get(pair(embeddings, moved)))
        if paired:
            row["relative"] = float(_relative(few, moved[:MAX_PAIRWISE]))
            ratios.append(np.asarray(_ratios(few, moved[:MAX_PAIRWISE]))[off_diagonal])
        else:
            row |= dict.fromkeys(("wahba", "wahba_orthogonal", "relative"), math.nan)
        rows.append(row)
    columns = {name: np.asarray([row[name] for row in rows], np.float64) for name in rows[0]}
    return Equivariance(
        **columns,
        relative_median=float(np.median(np.concatenate(ratios))) if paired else math.nan,
        num_examples=len(embeddings),
        num_pairwise=len(few) if paired else 0,
    )
