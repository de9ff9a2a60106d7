"""Which images, or clouds of points, a command for a trained model works on, and how its evaluation would see them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import ml_collections
import numpy as np

from care_jax import data
from care_jax.command_line import UsageError, say
from care_jax.data import CLASS, Examples, SkippedFiles, proteins
from care_jax.data.folder_tree import split_kind
from care_jax.devices import sharding
from care_jax.evaluate.embed import Embedder
from care_jax.evaluate.measure import UNTRAINED
from care_jax.experiment import build, extensions
from care_jax.experiment.inputs import stored_side
from care_jax.experiment.settings import of_clouds
from care_jax.trained import Trained, without_data

PARTS = ("train", "test", "pretrain")


class ImageSet(NamedTuple):
    """Images, or clouds, with what is known of each.

    Attributes:
      name: what they are, for messages.
      examples: n images or clouds.
      files: their paths, below the folder that was given; empty where they are no files.
      labels: name of a labelling -> n names of classes, or numbers where the classes have no names.
      skipped: counts files that turn out to be unusable.
    """

    name: str
    examples: Examples
    files: Sequence[str]
    labels: Mapping[str, Sequence[str | int]]
    skipped: SkippedFiles

    def columns(self, rows: np.ndarray) -> dict[str, list[str | int]]:
        """What is known of some of them, int [m].

        Returns:
          "number_in_set", which is no row of an array that lacks files that can't be read; "file" or "name"; and a
          column for each labelling.
        """
        found: dict[str, list[str | int]] = {"number_in_set": [int(row) for row in rows]}
        if self.files:
            found["file"] = [self.files[row] for row in rows]
        if self.examples.names:
            found["name"] = [self.examples.names[row] for row in rows]
        return found | {name: [values[row] for row in rows] for name, values in self.labels.items()}


def below(root: Path) -> ImageSet:
    """All images of a folder and of those below it; the first folder on the way to an image is its class.

    Where the first folders are all called like the parts of a split (train, test), the second one is.

    Raises:
      DataError: there are none.
    """
    examples, names, note = data.images_below(root)
    if note:
        say(f"{root}: {note}")
    above = [Path(name).parts[:-1] for name in names]
    deep = all(parts and split_kind(parts[0]) for parts in above)
    folders = [(*parts[deep:], "")[0] for parts in above]
    labels = {CLASS: folders} if any(folders) else {}
    return ImageSet(f"{len(names):,} images of {root}", examples, names, labels, SkippedFiles())


def clouds_below(root: Path, config: ml_collections.ConfigDict) -> ImageSet:
    """Pieces of all chains in the structures of a folder and of those below it, cut as a configuration says.

    Raises:
      DataError: there are none.
    """
    settings = config.data
    examples, note = proteins.clouds_below(
        root, window_lengths=tuple(settings.window_lengths), window_stride=settings.window_stride
    )
    if note:
        say(f"{root}: {note}")
    return ImageSet(f"{len(examples):,} clouds of {root}", examples, (), {}, SkippedFiles("structure file"))


def part_of(config: ml_collections.ConfigDict, part: str, model: Trained | None = None) -> ImageSet:
    """A part of the data set that a configuration names. A folder's files stay where they are.

    Args:
      config: a run's, or one that differs from it in settings of the evaluation and the data.
      part: one of `PARTS`.
      model: of that run. It is said where files have come or gone since it began, as parts are cut anew then.

    Raises:
      ConfigError, DataError: as its loader says.
    """
    extensions.load(config)
    if config.data.name == "image_folder":
        config = config.copy_and_resolve_references()
        with config.unlocked():
            # Encoded, however large the set is; they are brought to the same squares later.
            config.augment.placement, config.data.stored_size = "decode", None
    dataset = build.load_data(config)
    if model is not None and config.data.name == model.config.data.name:
        _tell_of_changes(dataset, model.workdir, part)
    examples: Examples = getattr(dataset, part)
    listing = dataset.files.get("train" if part == "pretrain" else part)
    files = [*listing.names] if listing is not None and len(listing) == len(examples) else []
    labels: dict[str, Sequence[str | int]] = {}
    for name, values in examples.labels.items():
        names = dataset.class_names.get(name)
        labels[name] = [names[value] for value in values] if names else values.tolist()
    what = f"the {len(examples):,} {examples.noun} of the {part} part of {dataset.name}"
    return ImageSet(what, examples, files, labels, dataset.skipped)


def tell_if_untrained(model: Trained, what: str, *, instead: str = "--what=features is what was trained") -> None:
    """Says where the embeddings that are asked for are of a projection head that nothing has trained."""
    if what == "embeddings" and not without_data(model.config).objective.projects:
        say(f"{UNTRAINED.reason}; {instead}")


def _tell_of_changes(dataset: data.DataSet, workdir: Path, part: str) -> None:
    try:
        changed = data.files_changed(dataset, workdir / "data.json.gz")
    except data.DataError as error:
        say(f"whether {dataset.name} is what the run was trained on is not known: {error}")
        return
    if changed:
        say(
            f"{dataset.name} is not what the run was trained on ({changed}): images of its {part} part now may have "
            "been in another then"
        )


def chosen(config: ml_collections.ConfigDict, images: str | None, part: str, model: Trained | None = None) -> ImageSet:
    """What --images and --part name: a folder, or a part of the run's own data set; `model` as of `part_of`."""
    if part not in PARTS:
        raise UsageError(f"--part={part}: give one of {', '.join(PARTS)}")
    if images is None:
        return part_of(config, part, model)
    root = Path(images).expanduser()
    return clouds_below(root, config) if of_clouds(config) else below(root)


def make_embedder(trained: Trained, config: ml_collections.ConfigDict, skipped: SkippedFiles) -> Embedder:
    """Embeds images, or clouds, as an evaluation of the run would see them, on all devices.

    Args:
      trained: the encoder.
      config: the run's, with settings of the evaluation that may have been changed.
      skipped: counts unusable files.
    """
    on_device = config.augment.placement == "device" and not of_clouds(config)
    return Embedder(
        trained.encoder,
        sharding.make_mesh(),
        build.evaluation_spec(config),
        batch_size=config.evaluate.batch_size,
        skipped=skipped,
        side=stored_side(config) if on_device else None,
    )
