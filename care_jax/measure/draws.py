"""The numbers that an evaluation of a run has too: of the draws of its equivariance branch, or of two arrays."""

from functools import cache, partial
from typing import Any

import ml_collections
import numpy as np

from care_jax import trained
from care_jax.command_line import say
from care_jax.data import DataSet
from care_jax.devices import sharding
from care_jax.embed.image_set import ImageSet
from care_jax.evaluate.embedded import EmbeddedDataSet, make_embedder
from care_jax.evaluate.evaluators import EVALUATORS
from care_jax.evaluate.measure import Missing
from care_jax.metrics import motion
from care_jax.models import normalize

NAMES = ("equivariance", "motion", "alignment")  # evaluators that need no label and no training images


def of_run(
    model: trained.Trained,
    config: ml_collections.ConfigDict,
    chosen: ImageSet,
    *,
    what: str = "embeddings",
    side: int | None = None,
) -> dict[str, Any]:
    """Numbers by the names that summary.json has, of all the images, or clouds.

    Args:
      model: what the run made.
      config: the run's, but for settings of the evaluation and the data.
      chosen: the images, or clouds.
      what: "embeddings", or "features", before the projection head, normalised to length 1.
      side: of the squares that encoded images are brought to, pixels; None for what the encoder sees.

    Raises:
      UserError: one line.
    """
    examples = chosen.examples
    dataset = DataSet(config.data.name, examples, examples, examples, {}, chosen.skipped)
    experiment = trained.without_data(config)._replace(mesh=sharding.make_mesh(), dataset=dataset)
    say(f"{config.evaluate.num_augmentations} augmentations of {chosen.name}, step {model.step} of {model.workdir}")
    embedded = EmbeddedDataSet(
        experiment, cache(partial(make_embedder, experiment, lambda: None, side=side)), model.variables
    )
    if what == "features":
        embedded = embedded.outputs("backbone", normalize)
    settings = config.evaluate
    found: dict[str, Any] = {}
    for name in NAMES:
        evaluator = EVALUATORS[name]
        of_features = what == "features"
        found |= embedded.once(evaluator.run, settings) if of_features else evaluator.numbers(embedded, settings)
    for name, value in found.items():
        if isinstance(value, Missing):
            found[name] = None
            say(f"{name} could not be measured: {value.reason}")
    return found | {"test_examples": len(embedded.part("test").rows)}


def of_arrays(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """The same numbers of one augmentation, in float64. Nothing is normalised.

    Args:
      before: [n, d].
      after: [n, d], row i of the same input, augmented.

    Returns:
      By the names that summary.json has; None for what is not known, as gamma of embeddings that rounding alone moves.
    """
    before, after = (np.asarray(array, np.float64) for array in (before, after))
    scale = len(before) ** -0.5

    def left(kind: motion.Kind) -> float:
        return float(np.linalg.norm(before @ motion.best_map(before, after, kind=kind).T - after)) * scale

    gamma = motion.relative_equivariance_quantiles(before, after, (0.5,))
    found = {
        "wahba_mean": left("rotation"),
        "wahba_orthogonal_mean": left("orthogonal"),
        "displacement_mean": float(np.linalg.norm(before - after)) * scale,
        "relative_equivariance_mean": gamma.mean,
        "relative_equivariance_median": gamma.quantiles[0.5],
    }
    known = {name: value if np.isfinite(value) else None for name, value in found.items()}
    return known | {"relative_equivariance_examples": gamma.n, "test_examples": len(before)}
