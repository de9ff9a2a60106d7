"""Neighbours after a colour change, scored (the paper's figures 9 and 21): do they have the new colour, and the class?

    python -m experiments.care_vs_simclr
    python -m experiments.retrieval                                         # of runs/care_vs_simclr
    python -m experiments.retrieval --query=7                               # another test image on the contact sheet

Up to 512 test images have their hue turned by a third of the circle and are looked up among the others, by the cosine
of the embeddings. A neighbour has the new colour by its class of hue, where the data set has such, and otherwise if its
mean colour is nearer to that of the turned image than to that of the image before. The table goes to standard output,
all numbers to `retrieval.json`, the neighbours of one image, a line a row of the table, to `retrieval.png`.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install("nothing is lost; the same command starts anew")  # before what takes time
    extras.require_train()

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from matplotlib.figure import Figure

from care_jax.augment import color
from care_jax.command_line import UsageError
from care_jax.data import CLASS, Examples
from care_jax.embed.queries import inputs as all_inputs
from care_jax.evaluate import plots
from care_jax.evaluate.measure import Measure
from experiments import analysis
from experiments.analysis import Analysis
from experiments.finished import Finished, FinishedTable

QUERIES = 512
NEIGHBOURS = 5  # that "follow" is over, and that are shown
RECALLS = (1, 5, 10)
_HUE = "hue"  # the labelling whose classes are equal parts of the hue circle, in its order
_BLOCK = 256  # images in memory at a time
_OF_NEIGHBOURS = f"share of the {NEIGHBOURS} nearest neighbours of the turned image that have "
MEASURES = {
    "follow": Measure(
        _OF_NEIGHBOURS + "the new colour",
        unit="%",
        better="higher",
        chance="follow_before",
        heading="follow",
        decimals=1,
    ),
    "follow_before": Measure(
        "the same of the image before it is turned: what an encoder has that no turn moves",
        unit="%",
        heading="before the turn",
        decimals=1,
    ),
    "class_kept": Measure(
        _OF_NEIGHBOURS + "the class of the image", unit="%", better="higher", heading="class kept", decimals=1
    ),
    **{
        f"recall_{k}": Measure(
            f"images of which one of the {k} nearest after the turn has the new colour and the old class",
            unit="%",
            better="higher",
            heading=f"recall@{k}",
            decimals=1,
        )
        for k in RECALLS
    },
}
COMPARED = ("follow", "class_kept", "recall_5")


class Lookups(NamedTuple):
    """Neighbours of q images among n, k = the largest of RECALLS or as many as there are.

    Attributes:
      before, after: rows of the n, [q, k], nearest first, of the image as it is and turned.
      new_before, new_after: whether each has the new colour, [q, k].
      kept: whether each of `after` has the class of the image, [q, k]; None without classes.
      still: whether the turn leaves the image as it was, [q]: it has no colour.
    """

    before: np.ndarray
    after: np.ndarray
    new_before: np.ndarray
    new_after: np.ndarray
    kept: np.ndarray | None
    still: np.ndarray


def neighbours(queries: np.ndarray, bank: np.ndarray, own: np.ndarray, k: int) -> np.ndarray:
    """Rows of the bank with the highest cosine, [q, k]; the earlier of equal ones.

    Args:
      queries, bank: unit rows [q, d], [n, d].
      own: [q] rows of the bank that are the same images, and no neighbours.
      k: how many; fewer where the bank has not as many others.
    """
    similarity = queries @ bank.T
    similarity[np.arange(len(own)), own] = -np.inf
    return np.argsort(-similarity, axis=1, kind="stable")[:, : min(k, len(bank) - 1)]


def nearer(colours: np.ndarray, to: np.ndarray, than: np.ndarray) -> np.ndarray:
    """Whether mean colours [n, 3] are nearer to some, [q, 3], than to others, [q, 3]: bool [q, n]."""
    distance = [np.square(colours[None] - ends[:, None]).sum(axis=-1) for ends in (to, than)]
    return np.asarray(distance[0] < distance[1])


def scores(found: Lookups) -> dict[str, float]:
    """The columns of the table, percent; NaN for those that need classes where there are none."""
    few = slice(0, NEIGHBOURS)
    both = None if found.kept is None else found.new_after & found.kept
    return {
        "follow": 100.0 * float(found.new_after[:, few].mean()),
        "follow_before": 100.0 * float(found.new_before[:, few].mean()),
        "class_kept": math.nan if found.kept is None else 100.0 * float(found.kept[:, few].mean()),
        **{f"recall_{k}": math.nan if both is None else 100.0 * float(both[:, :k].any(axis=1).mean()) for k in RECALLS},
    }


def turned(images: np.ndarray, turns: float) -> np.ndarray:
    """Images [q, s, s, 3] uint8 with their hue turned."""
    made = np.asarray(_turn(images.astype(np.float32) / np.float32(255.0), np.float32(turns)))
    return np.round(255.0 * np.clip(made, 0.0, 1.0)).astype(np.uint8)


_turn = jax.jit(color.adjust_hue)


def look_up(run: Finished, own: np.ndarray) -> tuple[Lookups, np.ndarray]:
    """The neighbours of test images of a run, rows [q] of those that were embedded; and these images turned.

    Raises:
      UsageError: clouds of points; one image; embeddings that are not finite.
    """
    embedded = run.embedded
    dataset, test = embedded.experiment.dataset, embedded.part("test")
    if dataset.clouds:
        raise UsageError(f"{run.model.workdir} is of clouds of points, which have no colour; give a table on images")
    if len(test.rows) < 2:
        raise UsageError(f"{run.model.workdir} has one test image: there is no other to find")
    num_hues = dataset.num_classes.get(_HUE)
    turns = round(num_hues / 3) / num_hues if num_hues else 1 / 3
    images = all_inputs(dataset.test.take(test.rows[own]), embedded.embedder.side)
    changed = turned(images, turns)
    moved = embedded.embedder(embedded.variables, Examples(images=changed)).embeddings
    if not (np.isfinite(moved).all() and np.isfinite(test.embeddings).all()):
        raise UsageError(f"{run.model.workdir}: embeddings are not finite; leave its row out with --only")
    before = neighbours(test.embeddings[own], test.embeddings, own, max(RECALLS))
    after = neighbours(moved, test.embeddings, own, max(RECALLS))
    if num_hues:
        hues = dataset.test.labels[_HUE][test.rows]
        new = hues[None] == ((hues[own] + round(num_hues / 3)) % num_hues)[:, None]
    else:
        colours = _mean_colours(dataset.test.take(test.rows), embedded.embedder.side)
        new = nearer(colours, changed.mean(axis=(1, 2)), images.mean(axis=(1, 2)))
    classes = dataset.test.labels[CLASS][test.rows] if CLASS in dataset.num_classes else None
    kept = None if classes is None else classes[after] == classes[own][:, None]
    of_before, of_after = (np.take_along_axis(new, rows, axis=1) for rows in (before, after))
    return Lookups(before, after, of_before, of_after, kept, (changed == images).all(axis=(1, 2, 3))), changed


def _mean_colours(examples: Examples, side: int) -> np.ndarray:
    blocks = [np.arange(start, min(start + _BLOCK, len(examples))) for start in range(0, len(examples), _BLOCK)]
    return np.concatenate([all_inputs(examples.take(rows), side).mean(axis=(1, 2)) for rows in blocks])


class Line(NamedTuple):
    """What the contact sheet shows of a row of the table.

    Attributes:
      images: the image, the turned one, and the neighbours of that one, [2 + k, s, s, 3] uint8.
      new: of each neighbour, whether it has the new colour, [k].
      kept: and the old class, [k]; None without classes.
    """

    images: np.ndarray
    new: np.ndarray
    kept: np.ndarray | None


def line(run: Finished, query: int) -> Line:
    """Of test image `query`.

    Raises:
      UsageError: as of `look_up`; there is no such image.
    """
    test = run.embedded.part("test").rows
    if query >= len(test):
        raise UsageError(f"--query={query}: the test images end at {len(test) - 1}")
    found, changed = look_up(run, np.array([query]))
    rows = test[np.array([query, *found.after[0, :NEIGHBOURS]])]
    images = all_inputs(run.embedded.experiment.dataset.test.take(rows), run.embedded.embedder.side)
    kept = None if found.kept is None else found.kept[0, :NEIGHBOURS]
    return Line(np.concatenate([images[:1], changed, images[1:]]), found.new_after[0, :NEIGHBOURS], kept)


def sheet(lines: Mapping[str, Line]) -> Figure:
    """A line a row of the table: the image, the turned one, its neighbours, and below each what it has of both."""
    most = max(len(of.images) for of in lines.values())
    figure, axes = plots.panels(len(lines), most, 1.15, 1.4)
    for (row, of), places in zip(lines.items(), axes, strict=True):
        titles = ["image", "turned", *_words(of)]
        for axis, image, title in zip(places, of.images, titles, strict=False):
            axis.imshow(image)
            axis.set_title(title, fontsize=7.5, color=plots.GREEN if title == "both" else "black")
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
        for axis in places[len(of.images) :]:
            axis.remove()
        places[0].set_ylabel(row)
    return figure


def _words(of: Line) -> Sequence[str]:
    if of.kept is None:
        return ["new colour" if new else "neither" for new in of.new]
    words = {(True, True): "both", (True, False): "new colour", (False, True): "old class", (False, False): "neither"}
    return [words[bool(new), bool(kept)] for new, kept in zip(of.new, of.kept, strict=True)]


def analyse(table: FinishedTable, query: int = 0) -> Analysis:
    """The neighbours of every run, and those of one image for the first seed of each row.

    Raises:
      UsageError: as of `look_up`; images without colour, which no turn of the hue changes.
    """
    numbers: dict[str, dict[str, dict[str, float]]] = {}
    lines: dict[str, Line] = {}
    details: dict[str, Any] = {}
    said: tuple[str, ...] = ()
    for run in table.runs():
        own = np.unique(np.linspace(0, len(run.embedded.part("test").rows) - 1, QUERIES).astype(int))
        if run.row not in lines:
            lines[run.row] = line(run, query)
        found, _ = look_up(run, own)
        still = int(found.still.sum())
        if still == len(own):
            raise UsageError(
                f"{run.model.workdir}: a turn of the hue changes none of {still} test images, which have no colour, so "
                "that no neighbour can have the new one; give --workdir a table on images in colour"
            )
        numbers.setdefault(run.row, {})[run.seed] = scores(found)
        by_labels = _HUE in run.embedded.labellings
        details = {"queries": len(own), "unchanged": still, "by_labels": by_labels, "query": query}
        if still:  # the same of every run
            said = (f"The turn changed {still} of {len(own)} images not at all, for they have no colour: they count.",)
    return Analysis(MEASURES, numbers, COMPARED, sheet(lines), details, said)


if __name__ == "__main__":
    flags.DEFINE_integer("query", 0, "Test image on the contact sheet.", lower_bound=0)
    analysis.start("retrieval", lambda table: analyse(table, flags.FLAGS.query))
