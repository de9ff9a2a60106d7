"""A data set as an encoder sees it, embedded once for all evaluators."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from flax import linen

from care_jax.data import CLASS, DataError, Examples
from care_jax.evaluate.embed import Embedded, Embedder
from care_jax.evaluate.rows import Rows
from care_jax.experiment.build import Experiment, evaluation_spec
from care_jax.losses.arrays import wide

Points = Callable[[jax.Array], jax.Array]
T = TypeVar("T")

_KEPT_BYTES = 2**30  # of embeddings under draws, a data set and network; those beyond are made anew when asked for


class Labelled(NamedTuple):
    """Features of both parts, n and m, with their labels in one labelling, [n] and [m]."""

    train_features: Rows
    train_labels: np.ndarray
    test_features: Rows
    test_labels: np.ndarray


class EmbeddedDataSet:
    """Each part of a data set, under each draw, is embedded when it is first asked for, and kept: no pixels are.

    Embeddings under draws are kept up to a gigabyte.

    Attributes:
      experiment: its data set, networks and ranges of draws.
      embedder: of the network.
      variables: of that network, at one step.
      notes: lines for the user, of what was taken otherwise than set.

    Args:
      experiment: as the attribute.
      make: () -> the embedder of the encoder; (network, points) -> that of `outputs`.
      variables: of all networks.
    """

    def __init__(self, experiment: Experiment, make: Callable[..., Embedder], variables: Mapping[str, Any]):
        self.experiment = experiment
        self.embedder = make()
        self.variables = variables
        self.notes: list[str] = []
        self._make = make
        # By the identity of the examples, which are kept: those that go would leave theirs to others.
        self._parts: dict[int, tuple[Examples, Embedded]] = {}
        self._read: dict[int, tuple[Examples, np.ndarray]] = {}  # the rows that the first pass could read
        self._drawn: dict[tuple[str, bytes, bytes], np.ndarray] = {}
        self._once: dict[Callable[..., Any], Any] = {}

    @property
    def labellings(self) -> tuple[str, ...]:
        """Those of the data set, and the class whether it has one or not."""
        return tuple(dict.fromkeys((CLASS, *self.experiment.dataset.num_classes)))

    def part(self, name: str) -> Embedded:
        """The part "train" or "test": the central squares, nothing drawn.

        Raises:
          DataError: other images could be read than in another pass over them, of `outputs` too.
        """
        examples = getattr(self.experiment.dataset, name)
        if id(examples) not in self._parts:
            self._parts[id(examples)] = examples, self._embed(examples)
        return self._parts[id(examples)][1]

    def _embed(self, examples: Examples, *draws: Any) -> Embedded:
        """One pass, in which the same images can be read as in the first over these examples."""
        made = self.embedder(self.variables, examples, *draws)
        _, rows = self._read.setdefault(id(examples), (examples, made.rows))
        check_rows(made.rows, rows, examples)
        return made

    def trained_on(self, examples: Examples) -> "EmbeddedDataSet":
        """The same with others as the part "train"; what is made of the test part serves both."""
        dataset = dataclasses.replace(self.experiment.dataset, train=examples)
        other = EmbeddedDataSet(self.experiment._replace(dataset=dataset), self._make, self.variables)
        other._parts, other._drawn, other._read = self._parts, self._drawn, self._read
        return other

    def drawn(self, uniforms: np.ndarray, branch: str, then: np.ndarray | None = None) -> np.ndarray:
        """Embeddings [n, d] of the test part, augmented: row by row of the same images as those of `part`.

        Args:
          uniforms: [K], shared by all images, or [n, K].
          branch: "invariance" or "equivariance", whose ranges are drawn from.
          then: [K], a second draw, applied to the images that the first has made.

        Raises:
          DataError: other images could be read than in another pass over them, of `outputs` too.
        """
        key = branch, uniforms.tobytes(), b"" if then is None else then.tobytes()
        if key in self._drawn:
            return self._drawn[key]
        spec = getattr(self.experiment.plan, branch)
        embeddings = self._embed(self.experiment.dataset.test, uniforms, spec, then).embeddings
        if sum(kept.nbytes for kept in self._drawn.values()) + embeddings.nbytes <= _KEPT_BYTES:
            self._drawn[key] = embeddings
        return embeddings

    def labelled(self, labelling: str) -> Labelled | None:
        """Features and labels of both parts; None without that labelling."""
        if labelling not in self.experiment.dataset.num_classes:
            return None
        found: list[Any] = []
        for name in ("train", "test"):
            embedded = self.part(name)
            found += [embedded.features, getattr(self.experiment.dataset, name).labels[labelling][embedded.rows]]
        return Labelled(*found)

    def once(self, function: "Callable[[EmbeddedDataSet, Any], T]", settings: Any) -> T:
        """`function(self, settings)`, called the first time that it is asked for."""
        if function not in self._once:
            self._once[function] = function(self, settings)
        return self._once[function]

    def outputs(self, network: str, points: Points) -> "EmbeddedDataSet":
        """The same data set with `points` of a network's outputs in the place of the embeddings.

        Args:
          network: "backbone", "head", or one of the objective's heads.
          points: outputs [b, m] -> vectors [b, d].
        """
        names = {"backbone": "backbone"} | ({} if network == "backbone" else {"head": network})
        variables = {
            collection: {to: found[name] for to, name in names.items() if name in found}
            for collection, found in self.variables.items()
        }
        other = EmbeddedDataSet(self.experiment, partial(self._make, network, points), variables)
        other._read = self._read
        return other


def check_rows(rows: np.ndarray, before: np.ndarray, examples: Examples) -> None:
    """That two passes over some examples could read the same ones, so that their embeddings belong together in pairs.

    Args:
      rows: those that could be read, [n], sorted.
      before: in the pass before.
      examples: that were passed over.

    Raises:
      DataError: others could; the message names the first of them.
    """
    changed = np.setxor1d(rows, before)
    if len(changed):
        first = int(changed[0])
        name = f"image {first}" if examples.resident else examples.encoded.name(first)
        raise DataError(
            f"{len(changed)} of {len(examples)} images could be read in one pass of the evaluation and not in another, "
            f"first {name}: see that the disk is well and nothing writes to its files, and start the same command again"
        )


class Outputs(linen.Module):
    """Images to the points that a network's outputs give; called as an encoder is.

    Attributes:
      backbone: images -> features.
      head: features -> outputs; None: the features themselves.
      points: outputs -> points.
    """

    backbone: linen.Module
    head: linen.Module | None
    points: Points

    @linen.compact
    def __call__(self, images: jax.Array, train: bool = False, num_views: int = 1) -> tuple[jax.Array, jax.Array]:
        """Features and points, [b, w] and [b, d]."""
        features = self.backbone(images, train, num_views)
        outputs = features if self.head is None else self.head(features, train, num_views)
        return features.astype(wide(features.dtype)), self.points(outputs)


def make_embedder(
    experiment: Experiment,
    check: Callable[[], None] = lambda: None,
    network: str = "",
    points: Points | None = None,
    *,
    side: int | None = None,
) -> Embedder:
    """An embedder with the experiment's devices and evaluation view.

    Args:
      experiment: its encoder and heads.
      check: as of `Embedder`.
      network: whose `points` take the place of the embeddings; empty for the encoder as it is.
      points: outputs -> points.
      side: as of `Embedder`.
    """
    module: linen.Module = experiment.encoder
    if points is not None:
        heads = {"backbone": None, "head": experiment.encoder.head, **experiment.objective.heads}
        module = Outputs(experiment.encoder.backbone, heads[network], points)
    return Embedder(
        module,
        experiment.mesh,
        evaluation_spec(experiment.config),
        batch_size=experiment.config.evaluate.batch_size,
        skipped=experiment.dataset.skipped,
        check=check,
        side=side,
    )
