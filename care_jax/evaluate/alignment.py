"""Alignment and uniformity (Wang and Isola, 2020) of two views of the test images, an independent draw an image."""

import math
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from care_jax import augment, losses
from care_jax.evaluate.embedded import EmbeddedDataSet
from care_jax.evaluate.measure import SEVERAL, Measure, Numbers

_MEASURES = {
    "alignment": Measure(
        "minus the mean cosine of two views, an independent draw an image from the invariance branch; -1 is invariant",
        better="lower",
        chance="0: unrelated vectors",
        heading="alignment",
    ),
    "uniformity": Measure(
        "mean over anchors of the log of the mean over negatives of exp(cosine), of the same views; 1 if all are equal",
        better="lower",
        heading="uniformity",
    ),
}


_alignment, _uniformity = jax.jit(losses.alignment), jax.jit(losses.uniformity)


def measures(labellings: Iterable[str]) -> dict[str, Measure]:
    """The same whatever is labelled."""
    del labellings
    return _MEASURES


def run(embedded: EmbeddedDataSet, settings: Any) -> Numbers:
    """Both at temperature 1; the MEAN over negatives, that uniformity does not depend on the size of the test set."""
    first, second = views(embedded, settings)
    alignment = float(_alignment(first, second))
    if len(first) < 2:  # no negatives
        return {"alignment": alignment, "uniformity": SEVERAL}
    uniformity = float(_uniformity(first, second))
    return {"alignment": alignment, "uniformity": uniformity - math.log(2 * len(first) - 2)}


def views(embedded: EmbeddedDataSet, settings: Any) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings, [n, d] each, of two views of the n test images, an independent draw an image, invariance branch.

    Args:
      embedded: the data set as an encoder sees it.
      settings: `config.evaluate`; its seed decides the draws, the same for every encoder.
    """
    key = jax.random.fold_in(jax.random.key(settings.seed), 1)  # apart from the shared draws' key
    experiment = embedded.experiment
    draws = np.asarray(augment.draw_uniforms(key, (2, len(experiment.dataset.test)), experiment.plan.invariance))
    first, second = (embedded.drawn(rows, "invariance") for rows in draws)
    return first, second
