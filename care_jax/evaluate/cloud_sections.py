"""What only the report of a run on clouds of points shows: their sizes, full turns in space, neighbours, and draws."""

import itertools
from collections.abc import Iterator, Sequence

import matplotlib
import numpy as np

from care_jax.augment import ViewPlan
from care_jax.data import Examples
from care_jax.evaluate import embedding_pictures, equivariance_error, orbits, pictures
from care_jax.evaluate.embedded import EmbeddedDataSet
from care_jax.evaluate.embedding_pictures import Orbit
from care_jax.evaluate.report import Picture
from care_jax.evaluate.retrieval import Retrieval
from care_jax.evaluate.thumbnails import thumbnails
from care_jax.metrics.clouds import radius_of_gyration

COLUMNS = 8  # clouds of the grid of draws
_FOLLOWED = 4  # clouds along an orbit
_FITTED = 512  # clouds that the rotation of a turn is fitted to
_STEPS = 100  # of a full turn
_QUERIES, _NEIGHBOURS = 6, 5
_WORDS = ("cloud", "nearest to it", "turned", "nearest to that")
_AXES = dict(zip("xyz", np.eye(3, dtype=np.float32), strict=True))
_ENERGY = 1e-9  # a turn of which less is in any plane moves nothing
# Four steps of one scale, the first and the last dark enough for white.
QUARTER_COLOURS = tuple(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, 4)).tolist())


def of_embeddings(embedded: EmbeddedDataSet) -> Iterator[tuple[str, Picture]]:
    """Sections that show where embeddings go when clouds turn."""
    yield "Around a full turn", _orbits(embedded)
    yield "Nearest neighbours before and after a turn", _neighbours(embedded)


def drawn(plan: ViewPlan, examples: Examples) -> Picture:
    """The section of the views of a step."""
    clouds = examples.pixels[spaced(len(examples), COLUMNS)]
    return Picture(
        "Invariance views are drawn cloud by cloud, for the contrastive loss. An equivariance view's draw is the same "
        "for all clouds of a group: along its line the same is done to all. Seen along the third axis, nearer points "
        "larger, coloured by their number from dark to light.",
        (pictures.cloud_grid(plan, clouds),),
        wide=True,
    )


def spaced(count: int, most: int) -> np.ndarray:
    """Numbers of examples, [at most `most`], evenly spaced: neighbours in order are often of one chain."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def size_quarters(clouds: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Which quarter a cloud is in by its radius of gyration.

    Args:
      clouds: [n, L, 4].

    Returns:
      Labels [n] in [0, 4), the smallest first, and the range of each quarter in words.
    """
    radii = radius_of_gyration(clouds[..., :3], clouds[..., 3] > 0)
    edges = np.quantile(radii, (0.0, 0.25, 0.5, 0.75, 1.0))
    labels = np.searchsorted(edges[1:-1], radii, side="right")
    return labels, [f"{low:.2f}–{high:.2f}" for low, high in itertools.pairwise(edges)]


def full_turns(embedded: EmbeddedDataSet, count: int = _FOLLOWED) -> tuple[list[str], dict[str, Orbit]]:
    """Test clouds, evenly spaced, while they turn through the full circle about each of three axes, in 100 steps.

    Args:
      embedded: what is judged.
      count: clouds that are followed.

    Returns:
      Their names; of each axis their ways, in the plane that the rotation fitted to a twelfth of the circle moves most.
      An axis about which nothing moves is left out.
    """
    examples, test = embedded.experiment.dataset.test, embedded.part("test")
    rows = spaced(len(test.rows), _FITTED)
    clouds, embeddings = examples.pixels[test.rows[rows]], test.embeddings[rows]
    chosen = spaced(len(rows), count)
    names = [examples.names[row] if examples.names else f"cloud {row}" for row in test.rows[rows[chosen]]]
    found = {}
    for name, axis in _AXES.items():
        turn = orbits.turned_about(axis)
        one = orbits.orbit(
            embedded.embedder, embedded.variables, clouds, embeddings, chosen, turn, turn=1 / 12, steps=_STEPS
        )
        if one is not None and one.energy > _ENERGY:
            found[name] = one
    return names, found


def _orbits(embedded: EmbeddedDataSet) -> Picture:
    names, found = full_turns(embedded)
    whats = [f"about {name}:\n{circle_in_words(one)}" for name, one in found.items()]
    return Picture(
        f"A few clouds, while they turn through the full circle about each axis in {_STEPS} steps, in the plane of the "
        "fitted rotation that moves the embeddings most; a ring marks where each begins. An embedding that turns with "
        "the cloud goes round a circle about the cross, once or several times; one that does not care stays where it "
        "is. Roundness is 1 - standard deviation / mean of the distances of a way's points from their mean: 1 of a "
        "circle of any size, 0.52 of a line that is gone to and fro, 0.48 of noise. The radius is the mean of these "
        "distances; embeddings have length 1. Both are means over the ways shown.",
        (embedding_pictures.orbits([*found.values()], whats, names),) if found else (),
        wide=True,
    )


def circle_in_words(found: Orbit) -> str:
    """Roundness and radius of its ways."""
    circle = orbits.circle(found.coordinates)
    return "still" if circle is None else f"roundness {circle.roundness:.2f}, radius {circle.radius:.2g}"


def _neighbours(embedded: EmbeddedDataSet) -> Picture:
    examples, test = embedded.experiment.dataset.test, embedded.part("test")
    rows = spaced(len(test.rows), equivariance_error.MAX_PAIRWISE)
    bank, embeddings = examples.pixels[test.rows[rows]], test.embeddings[rows]
    queries = spaced(len(rows), _QUERIES)
    changed = orbits.turned_about(_AXES["z"])(bank[queries], np.full(len(queries), 0.25, np.float32))
    moved = embedded.embedder(embedded.variables, Examples(images=changed)).embeddings
    origins = [_origin(examples.names[row]) for row in test.rows[rows]] if examples.names else [*map(str, rows)]
    near = [nearest(points, embeddings, queries, origins) for points in (embeddings[queries], moved)]
    k = min(len(one) for lists in near for one in lists)
    before, after = (np.asarray([one[:k] for one in lists], int).reshape(len(queries), k) for lists in near)
    # Only what is shown is drawn, all to one scale.
    shown, places = np.unique(np.concatenate([queries, before.ravel(), after.ravel()]), return_inverse=True)
    drawn_ = thumbnails(np.concatenate([bank[shown], changed]))
    rows_before, rows_after = places[len(queries) :].reshape(2, len(queries), k)
    found = Retrieval(drawn_[places[: len(queries)]], drawn_[len(shown) :], rows_before, rows_after)
    figure = pictures.neighbour_grid(found, drawn_[: len(shown)], _WORDS)
    return Picture(
        "Test clouds, their nearest test clouds by the cosine of the embeddings, and the same for the cloud turned by "
        "90 degrees about the third axis, along which all are seen. An equivariant encoder's neighbours follow the "
        "turn; an invariant one's stay."
        + (" Pieces of the chain that the cloud is of are left out." if examples.names else ""),
        () if figure is None else (figure,),
        wide=True,
    )


def nearest(points: np.ndarray, bank: np.ndarray, own: np.ndarray, origins: Sequence[str]) -> list[np.ndarray]:
    """Rows of the bank by their cosine with each point, the nearest first; none of the point's own origin.

    Args:
      points: unit rows [q, d].
      bank: unit rows [n, d].
      own: [q] the row of the bank that a point is made of.
      origins: of the n rows.

    Returns:
      q lists of rows, at most `_NEIGHBOURS` each.
    """
    named = np.asarray(origins)
    found = []
    for point, row in zip(points, own, strict=True):
        others = np.flatnonzero(named != named[row])
        order = np.argsort(-(bank[others] @ point), kind="stable")
        found.append(others[order[:_NEIGHBOURS]])
    return found


def _origin(name: str) -> str:
    """The chain that a piece is of."""
    return name.partition(" residues ")[0]
