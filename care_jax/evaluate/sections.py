"""What a run's report shows, section by section: the pictures with what to see in them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from care_jax import augment
from care_jax.augment import AugmentSpec, Spec
from care_jax.data import CLASS, Examples
from care_jax.evaluate import (
    cloud_sections,
    embedding_pictures,
    equivariance_error,
    knn,
    orbits,
    pictures,
    planes,
    plots,
    strength_shares,
)
from care_jax.evaluate.embed import Embedder
from care_jax.evaluate.embedded import EmbeddedDataSet
from care_jax.evaluate.embedding_pictures import Draws
from care_jax.evaluate.measure import Measure
from care_jax.evaluate.report import Picture
from care_jax.evaluate.retrieval import hue_retrieval

_COLUMNS = 8  # images of the grid of draws
_FOLLOWED = 4  # images along an orbit
_FITTED = 512  # images that the rotation of a turn is fitted to
_WIDE = 256  # dimensions up to which all draws have a rotation fitted
_ENERGY = 1e-9  # a turn of which less is in any plane moves nothing


def of_run(
    embedded: EmbeddedDataSet, rows: Sequence[Mapping[str, float]], measures: Mapping[str, Measure]
) -> dict[str, Picture]:
    """The sections by their headings, those that make the case first.

    Args:
      embedded: what is judged.
      rows: of metrics.jsonl.
      measures: what the numbers of the summary are.
    """
    return dict(_sections(embedded, rows, measures))


def _sections(
    embedded: EmbeddedDataSet, rows: Sequence[Mapping[str, float]], measures: Mapping[str, Measure]
) -> Iterator[tuple[str, Picture]]:
    experiment = embedded.experiment
    if experiment.objective.projects:  # else embeddings are of a network that nothing has trained
        yield from _of_embeddings(embedded)
    if (section := _confusion(embedded)) is not None:
        yield "Which classes are taken for which", section
    yield (
        "Training",
        Picture(
            "Terms of the loss before weighting, the monitors, and the learning rate, over the steps.",
            pictures.training_curves(rows, measures),
        ),
    )
    pretrain = experiment.dataset.pretrain
    drawn = cloud_sections.drawn(experiment.plan, pretrain) if pretrain.clouds else _drawn_images(embedded, pretrain)
    yield "Drawn augmentations", drawn


def _of_embeddings(embedded: EmbeddedDataSet) -> Iterator[tuple[str, Picture]]:
    experiment = embedded.experiment
    clouds, noun = experiment.dataset.clouds, experiment.dataset.test.noun
    found = draws(embedded, experiment.config.evaluate)
    yield (
        "Is an augmentation a rotation?",
        Picture(
            f"A point is one drawn augmentation, applied to all test {noun}. At 0 % no rotation of the embeddings "
            "explains anything of what it did, at 100 % one rotation explains everything. Below 0 a rotation fitted on "
            f"one half of the {noun} does harm on the other. On those that it was fitted to any rotation looks better "
            "than it is (+).",
            _of(embedding_pictures.shares_explained(found, noun)),
        ),
    )
    bank_images, bank = _bank(embedded)
    shares = strength_shares.strength_shares(embedded.embedder, embedded.variables, bank_images, bank)
    yield (
        "Each augmentation by itself",
        Picture(
            "The same for one augmentation after the other, the stronger the further to the right, with 95 % "
            f"intervals, of up to {strength_shares.MOST} test {noun}. What the equivariance branch does not draw is "
            "shown too: there nobody asked the encoder for a rotation.",
            _of(strength_shares.picture(shares, clouds=clouds)),
            wide=True,
        ),
    )
    yield (
        "How far do the rotations turn?",
        Picture(
            "A rotation of d dimensions turns d / 2 planes, each by its angle. Where no embedding lies in a plane, its "
            "angle is noise: the picture that counts by squared length is the one to believe.",
            embedding_pictures.spectrum(found),
        ),
    )
    yield f"Test {noun} in the plane", _plane(embedded)
    yield from cloud_sections.of_embeddings(embedded) if clouds else _of_images(embedded, bank_images, bank)


def _bank(embedded: EmbeddedDataSet) -> tuple[np.ndarray, np.ndarray]:
    """Test images, or clouds, and their embeddings: the first images; clouds over all of them, as few as are used."""
    test, examples = embedded.part("test"), embedded.experiment.dataset.test
    if examples.clouds:
        rows = cloud_sections.spaced(len(test.rows), strength_shares.MOST)
        return examples.pixels[test.rows[rows]], test.embeddings[rows]
    bank = test.embeddings[: equivariance_error.MAX_PAIRWISE]
    return few_images(embedded.embedder, examples, len(bank)), bank


def _of_images(embedded: EmbeddedDataSet, bank_images: np.ndarray, bank: np.ndarray) -> Iterator[tuple[str, Picture]]:
    yield "Around a full turn", _orbits(embedded, bank_images[:_FITTED], bank[:_FITTED])
    chosen = np.linspace(0, len(bank_images) - 1, min(6, len(bank_images))).astype(int)
    neighbours = hue_retrieval(embedded.embedder, embedded.variables, bank_images, bank, chosen)
    yield (
        "Nearest neighbours before and after a hue change",
        Picture(
            "Test images, their nearest test images, and the same for the image with its hue turned by a third of the "
            "circle. An equivariant encoder's neighbours follow the hue; an invariant one's stay.",
            _of(pictures.neighbour_grid(neighbours, bank_images)),
            wide=True,
        ),
    )


def _drawn_images(embedded: EmbeddedDataSet, examples: Examples) -> Picture:
    # Encoded sets are too large to keep their pixels; a few are decoded for the pictures.
    shown = few_images(embedded.embedder, examples.take(_of_several_classes(examples)), _COLUMNS)
    return Picture(
        "Invariance views are drawn image by image, for the contrastive loss. An equivariance view's draw is the "
        "same for all images of a group: compare the colours and boxes along a line. The boxes in the first line "
        "are what was cut out, in the colours of the views' names.",
        (pictures.augmentation_grid(embedded.experiment.plan, shown),),
        wide=True,
    )


def draws(embedded: EmbeddedDataSet, settings: Any) -> Draws:
    """Those of the measures of equivariance, each with the rotations fitted to it."""
    measured = embedded.once(equivariance_error.measure, settings)
    before = embedded.part("test").embeddings
    uniforms = equivariance_error.draws(embedded, settings)
    fit, test = planes.halves(len(before))
    held_out, angles, energies = [], [], []
    empty = np.full(before.shape[1] // 2, np.nan)
    fitted = _fitted(len(uniforms), before.shape[1])
    for i, draw in enumerate(uniforms):
        after = embedded.drawn(draw, "equivariance")
        usable = i < fitted and len(before) > 1 and np.isfinite(before).all() and np.isfinite(after).all()
        rotation = planes.fitted(before[fit], after[fit]) if usable else None
        found = planes.planes(rotation) if rotation is not None else None
        held_out.append(np.nan if rotation is None else planes.share_explained(before[test], after[test], rotation))
        angles.append(found.angles if found else empty)
        energies.append(planes.energies(before, found.bases) if found else empty)
    with np.errstate(divide="ignore", invalid="ignore"):
        same = 1.0 - (measured.wahba / measured.displacement) ** 2
    return Draws(
        displacement=measured.displacement,
        held_out=np.asarray(held_out),
        same_images=same,
        grayscale=_grayscale(uniforms, embedded.experiment.plan.equivariance),
        angles=np.asarray(angles),
        energies=np.asarray(energies),
    )


def _fitted(count: int, dimensions: int) -> int:
    """Of so many draws those that a rotation is fitted to: it takes d^3, so fewer of wide embeddings."""
    if dimensions > orbits.WIDEST:
        return 0
    return count if dimensions <= _WIDE else max(1, round(count * (_WIDE / dimensions) ** 3))


def _grayscale(uniforms: np.ndarray, spec: Spec) -> np.ndarray:
    """Whether each draw takes the colours away, [m]; of clouds none does."""
    if not isinstance(spec, AugmentSpec):
        return np.zeros(len(uniforms), bool)
    return np.asarray(_gray(uniforms, spec)) > 0


@jax.jit(static_argnums=1)
def _gray(uniforms: jax.Array, spec: AugmentSpec) -> jax.Array:
    drawn: jax.Array = augment.sample(uniforms, spec, height=spec.size, width=spec.size).grayscale
    return drawn


def class_names(embedded: EmbeddedDataSet, labelling: str) -> list[str]:
    """Of a labelling; their numbers where they have no names."""
    dataset = embedded.experiment.dataset
    names = dataset.class_names.get(labelling)
    return list(map(str, names)) if names else [str(i) for i in range(dataset.num_classes[labelling])]


def few_images(embedder: Embedder, examples: Examples, count: int) -> np.ndarray:
    """The first readable images, [at most count, h, w, 3] uint8."""
    if examples.resident:
        return examples.pixels[:count]
    images: list[np.ndarray] = []
    for batch, _, mask in embedder.batches(examples, all_rows=True):
        images.extend(batch[mask])
        if len(images) >= count:
            break
    return np.asarray(images[:count])


def _of_several_classes(examples: Examples) -> np.ndarray:
    """The first image of each class, then what comes first: more rows than are shown, for some can't be read."""
    labels = next(iter(examples.labels.values())) if examples.labels else np.zeros(len(examples), int)
    firsts = np.sort(np.unique(labels, return_index=True)[1])
    if len(firsts) > _COLUMNS:
        firsts = firsts[np.linspace(0, len(firsts) - 1, _COLUMNS).astype(int)]
    others = np.setdiff1d(np.arange(min(len(examples), 8 * _COLUMNS)), firsts)
    return np.concatenate([firsts, others])


def _plane(embedded: EmbeddedDataSet) -> Picture:
    test = embedded.part("test")
    finite = np.isfinite(test.embeddings).all(axis=1)
    if not finite.any():
        return Picture("No embedding is a finite number.")
    coordinates, shares = planes.principal_plane(test.embeddings[finite])
    shown = slice(None, None, -(-len(coordinates) // embedding_pictures.MAX_POINTS))
    neighbours = planes.neighbour_plane(test.embeddings[finite][shown])
    dataset = embedded.experiment.dataset
    labels: dict[str, tuple[np.ndarray, list[str]]] = {
        labelling: (dataset.test.labels[labelling][test.rows][finite], class_names(embedded, labelling))
        for labelling in dataset.num_classes
    }
    colours: Sequence[Any] = plots.PALETTE
    sizes = dataset.clouds and not labels
    if sizes:
        labels = {"radius of gyration": cloud_sections.size_quarters(dataset.test.pixels[test.rows[finite]])}
        colours = cloud_sections.QUARTER_COLOURS
    labels = labels or {"no label": (np.zeros(len(coordinates), int), ["test images"])}
    figures = []
    for labelling, (of_rows, names) in labels.items():
        figures.append(embedding_pictures.plane(coordinates, list(shares), of_rows, labelling, names, colours))
        if neighbours is not None:
            figures.append(embedding_pictures.plane(neighbours, None, of_rows[shown], labelling, names, colours))
    return Picture(
        "Embeddings in the plane of their first two principal components. What the encoder keeps lies sorted by "
        "colour; what it has lost is mixed."
        + (
            " A colour is a quarter of the clouds, by their radius of gyration in units of the coordinates."
            if sizes
            else ""
        )
        + (" UMAP keeps neighbours together; its distances and axes mean nothing." if neighbours is not None else ""),
        figures,
    )


def _orbits(embedded: EmbeddedDataSet, images: np.ndarray, embeddings: np.ndarray) -> Picture:
    dataset, test = embedded.experiment.dataset, embedded.part("test")
    labels = dataset.test.labels[CLASS][test.rows][: len(images)] if CLASS in dataset.num_classes else None
    chosen = np.linspace(0, len(images) - 1, min(_FOLLOWED, len(images))).astype(int)
    names = [f"image {row}" for row in chosen]
    if labels is not None:
        chosen = np.unique(labels, return_index=True)[1]
        chosen = chosen[np.linspace(0, len(chosen) - 1, min(_FOLLOWED, len(chosen))).astype(int)]
        names = [class_names(embedded, CLASS)[labels[row]] for row in chosen]
    figures: list[Figure] = []
    for what, change, turn in (("hue turned", orbits.turned_hue, 1 / 8), ("image turned", orbits.turned, 1 / 12)):
        found = orbits.orbit(embedded.embedder, embedded.variables, images, embeddings, chosen, change, turn=turn)
        if found is not None and found.energy > _ENERGY:
            figures.append(embedding_pictures.orbit(found, f"{what} through the full circle", names))
    return Picture(
        "A few images, one a class, while their hue or they themselves turn through the full circle, in the plane of "
        "the fitted rotation that moves the embeddings most; a ring marks where each begins. An embedding that turns "
        "with the image goes round a circle about the cross; one that does not care stays where it is.",
        figures,
    )


def _confusion(embedded: EmbeddedDataSet) -> Picture | None:
    found = knn.votes(embedded, embedded.experiment.config.evaluate)
    if found is None:
        return None
    labels, predicted = found
    names = class_names(embedded, CLASS)
    wrong = embedding_pictures.confused(labels, predicted, names)
    return Picture(
        f"The vote of the nearest training images against what is true. Most often wrong: {wrong or 'none'}.",
        _of(embedding_pictures.confusion(labels, predicted, names)),
    )


def _of(figure: Figure | None) -> tuple[Figure, ...]:
    return () if figure is None else (figure,)
