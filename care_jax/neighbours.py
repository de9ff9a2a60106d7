"""The nearest images, also after a change of colour or a crop: `python -m care_jax.neighbours runs/digits photo.jpg`.

    care-jax neighbours runs/mine query.jpg --images=photos --out=neighbours.png

Prints a table, and draws a contact sheet. An IMAGE is a file, or the number of an image among those that are searched:
--images, a folder with all below it, or a --part of the run's own data set. An image is no neighbour of its own.

For a run on clouds of points files are protein structures, PDB or mmCIF: --images is a folder of them, and of a file
that is looked up the first piece is taken.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install("nothing is written; the same command starts anew")
    extras.require_train()

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import ml_collections
import numpy as np
from absl import app, flags, logging
from matplotlib.figure import Figure

from care_jax import trained
from care_jax.command_line import UsageError, say, user_errors
from care_jax.data import DataError, Examples
from care_jax.devices import compilation_cache, cores
from care_jax.embed import changes as changing
from care_jax.embed import image_set, queries
from care_jax.errors import printable
from care_jax.evaluate import plots
from care_jax.evaluate.thumbnails import thumbnails
from care_jax.experiment.settings import of_clouds
from care_jax.progress import progress
from care_jax.storage import check_writable, local_path, replace_file

EXAMPLE = "care-jax neighbours runs/mine query.jpg --images=photos"
MAX_QUERIES = 100
FLAGS = flags.FLAGS
flags.DEFINE_string(
    "images",
    None,
    "Folder of images to search, or of protein structures, with all below it; none: --part of the run's data set.",
)
flags.DEFINE_string("part", "test", "Of the run's data set: test, train or pretrain.")
flags.DEFINE_integer("k", 8, "Neighbours.", 1, 1000)
flags.DEFINE_list(
    "changes",
    None,
    f"What else is looked up, of {', '.join(changing.OF_IMAGES)} (hue,crop), of clouds {', '.join(changing.OF_CLOUDS)} "
    "(both); empty for nothing.",
)
flags.DEFINE_enum("what", "embeddings", ("features", "embeddings"), "What is compared, by its cosine.")
flags.DEFINE_string("out", "neighbours.png", "The contact sheet.")
flags.DEFINE_string("step", "", "The checkpoint: a step, 'best', or nothing for the newest.")
flags.DEFINE_bool("compilation_cache", True, "Keep what is compiled in the user's cache folder, for the next start.")


class Found(NamedTuple):
    """The neighbours of q queries, nearest first.

    Attributes:
      rows: int [q, k], of what was searched.
      cosines: float32 [q, k].
    """

    rows: np.ndarray
    cosines: np.ndarray


def main(argv: list[str]) -> None:
    """Wires the flags to a search."""
    logging.set_verbosity(logging.FATAL)
    with user_errors():
        compilation_cache.switch_on(FLAGS.compilation_cache, warn=say)
        cores.share_out()
        neighbours(
            local_path(argv[1], "WORKDIR"),
            FLAGS.config,
            argv[2:],
            local_path(FLAGS.out, "--out"),
            images=trained.images_flag(),
            part=FLAGS.part,
            k=FLAGS.k,
            changes=FLAGS.changes,
            what=FLAGS.what,
            step=FLAGS.step,
        )


def neighbours(
    workdir: Path,
    config: ml_collections.ConfigDict,
    words: Sequence[str],
    out: Path,
    *,
    images: str | None = None,
    part: str = "test",
    k: int = 8,
    changes: Sequence[str] | None = None,
    what: str = "embeddings",
    step: str = "",
) -> None:
    """Prints the neighbours of each query, and draws them.

    Args:
      workdir: folder of the run, or of a checkpoint.
      config: the run's, but for settings of the evaluation and the data.
      words: files, or numbers of the images or clouds that are searched.
      out: the contact sheet.
      images, part, k, changes, what, step: as the flags.

    Raises:
      UserError: one line.
    """
    changes = changing.names(changes, clouds=of_clouds(config))
    if out.suffix != ".png":
        raise UsageError(f"--out={out}: give a file that ends in .png")
    if len(words) > MAX_QUERIES:
        raise UsageError(f"{len(words)} queries are more than the {MAX_QUERIES} that a contact sheet has room for")
    check_writable(out, "--out")
    model = trained.load(workdir, step)
    trained.check_only(model.config, config, "config.evaluate.", "config.data.")
    image_set.tell_if_untrained(model, what)
    bank = image_set.chosen(config, images, part, model)
    embedder = image_set.make_embedder(model, config, bank.skipped)
    own, originals = zip(*(queries.find(word, bank, config, side=embedder.side) for word in words), strict=True)
    # A query's versions follow each other.
    headings = [(word, change) for word in words for change in ("", *changes)]
    versions = np.stack([changing.changed(np.stack(originals), change) for change in ("", *changes)], axis=1)
    versions = versions.reshape(-1, *versions.shape[2:])
    say(f"searching {bank.name} by their {what}, step {model.step} of {model.workdir}")

    unusable: list[int] = []  # rows of what is not finite

    def points(examples: Examples) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray]]]:
        for count, (rows, features, embeddings) in embedder.stream(model.encoder_variables, examples):
            values = features if what == "features" else embeddings
            unusable.extend(int(row) for row in rows[~np.isfinite(values).all(axis=1)])
            yield count, (rows, values)

    looked_up = np.concatenate([some for _, (_, some) in points(Examples(versions))])
    for (word, change), point in zip(headings, looked_up, strict=True):
        if not np.isfinite(point).all():
            raise DataError(f"{word}{f', {change}' if change else ''}: its {what} are not finite: nothing is near")
    one = bank.examples.noun.removesuffix("s")
    batches = progress(points(bank.examples), len(bank.examples), one)
    found = search(batches, looked_up, k, own=np.repeat(own, len(versions) // len(words)))
    if not found.rows.shape[1]:
        raise DataError(f"{bank.name}: none of them but the {one} itself could be read. {bank.skipped.summary()}")
    print(table(headings, found, bank.columns, one), end="", flush=True)
    wanted = np.unique(found.rows)
    shown = _pictures(np.concatenate([versions, queries.inputs(bank.examples.take(wanted), embedder.side)]))
    nearest = shown[len(versions) + np.searchsorted(wanted, found.rows)]
    replace_file(out, contact_sheet(headings, shown[: len(versions)], nearest, one))
    if len(bank.skipped):
        say(bank.skipped.summary())
    if unusable:
        say(
            f"the {what} of {len(unusable):,} {bank.examples.noun} are not finite, number {unusable[0]} first: left out"
        )
    say(f"{out} shows them")


def search(batches: Iterable[tuple[np.ndarray, np.ndarray]], queries: np.ndarray, k: int, *, own: np.ndarray) -> Found:
    """The k points with the largest cosine, exactly, of any number of points that come batch by batch.

    Args:
      batches: rows [b] and points [b, d].
      queries: [q, d].
      k: neighbours; fewer where there are not as many points.
      own: [q], a row that is no neighbour of the query; -1 for none.
    """
    unit = queries / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-30)
    best_rows, best = np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32)
    for rows, points in batches:
        cosines = unit @ (points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-30)).T
        cosines = np.where(own[:, None] == rows[None, :], -np.inf, cosines).astype(np.float32)
        best_rows = np.concatenate([best_rows, np.broadcast_to(rows, cosines.shape)], axis=1)
        best = np.concatenate([best, cosines], axis=1)
        # Of equal ones the first: a stable order.
        order = np.argsort(-best, axis=1, kind="stable")[:, :k]
        best_rows, best = np.take_along_axis(best_rows, order, 1), np.take_along_axis(best, order, 1)
    count = int(np.isfinite(best).sum(axis=1).min()) if best.size else 0
    return Found(best_rows[:, :count], best[:, :count])


def table(
    headings: Sequence[tuple[str, str]],
    found: Found,
    columns: Callable[[np.ndarray], dict[str, list[str | int]]],
    one: str = "image",
) -> str:
    """A line a neighbour, tab-separated with a header, as spreadsheets and `cut` read it; `one` heads the queries."""
    lines: list[list[str]] = []
    for (word, change), rows, cosines in zip(headings, found.rows, found.cosines, strict=True):
        known = columns(rows)
        if not lines:
            lines.append([one, "change", "rank", "cosine", *known])
        for rank, cosine in enumerate(cosines):
            values = [str(values[rank]) for values in known.values()]
            lines.append([word, change, str(rank + 1), f"{cosine:.4f}", *values])
    return "".join("\t".join(map(printable, line)) + "\n" for line in lines)


def contact_sheet(
    headings: Sequence[tuple[str, str]], looked_up: np.ndarray, nearest: np.ndarray, one: str = "image"
) -> bytes:
    """A PNG: a line a query, its picture, and those of what is nearest to it.

    Args:
      headings: of each line: the query's name, and what was changed.
      looked_up: [q, s, s, 3] uint8.
      nearest: [q, k, s, s, 3] uint8.
      one: what heads the queries.
    """
    k = nearest.shape[1]
    figure = Figure(figsize=(2.2 + 1.0 * (k + 1.3), 1.12 * len(looked_up) + 0.35), layout="constrained", dpi=120)
    axes = figure.subplots(len(looked_up), k + 2, squeeze=False, gridspec_kw={"width_ratios": [1, 0.25, *[1] * k]})
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.set_frame_on(False)
    for line, (name, change) in enumerate(headings):
        label = changing.words(change) if change else plots.words(name if len(name) <= 24 else f"...{name[-21:]}")
        weight = "normal" if change else "bold"
        axes[line, 0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8, fontweight=weight)
        axes[line, 0].imshow(looked_up[line])
        for axis, image in zip(axes[line, 2:], nearest[line], strict=True):
            axis.imshow(image)
    axes[0, 0].set_title(one, fontsize=9)
    axes[0, 2].set_title("nearest first", fontsize=9, loc="left")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _pictures(inputs: np.ndarray) -> np.ndarray:
    """Images as they are; of clouds pictures [m, s, s, 3] uint8, all to one scale."""
    return thumbnails(inputs) if inputs.ndim == 3 else inputs


if __name__ == "__main__":
    app.run(main, flags_parser=lambda argv: argv[:1] + trained.parse(argv, EXAMPLE, least=2, most=MAX_QUERIES + 2))
