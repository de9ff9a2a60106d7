"""How nearly an augmentation rotates embeddings: of a run, or of two arrays from anywhere.

    care-jax measure runs/digits --images=photos --out=measured
    care-jax measure --embeddings=before.npy,after.npy

Of a run: of its encoder's embeddings under the draws of its equivariance branch, on --images or on a --part of its own
data set. Of two arrays [n, d]: row i of the second embeds the augmented input that row i of the first embeds; one
augmentation for all rows. Prints a table; --out=DIR gets the same as measure.json.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install("nothing is written; the same command starts anew")
    extras.require_train()

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import app, flags, logging

from care_jax import metrics, trained
from care_jax.command_line import UsageError, fail, parse_flags, say, user_errors
from care_jax.data import DataError, DataSet
from care_jax.devices import compilation_cache, sharding
from care_jax.embed import image_set
from care_jax.evaluate import equivariance_error, results
from care_jax.evaluate.evaluation import Evaluation
from care_jax.evaluate.evaluators import EVALUATORS
from care_jax.evaluate.measure import Missing
from care_jax.storage import check_writable, local_path, replace_file
from care_jax.workdir import plain, writing

EXAMPLE = "care-jax measure runs/digits, or care-jax measure --embeddings=before.npy,after.npy,"
# 1 - W^2 / D^2, Wahba error over displacement, on rows that the rotation was not fitted on; mean over the draws.
SHARE = "rotation_share_explained"
NAMES = ("equivariance", "alignment")  # evaluators that need no label and no training images
FLAGS = flags.FLAGS
flags.DEFINE_list("embeddings", None, "Two files of arrays [n, d], .npy: before and after one augmentation.")
flags.DEFINE_string("images", None, "Of a run: folder of images, with all below it; none: --part of its data set.")
flags.DEFINE_string("part", "test", "Of the run's data set: test, train or pretrain.")
flags.DEFINE_string("step", "", "The checkpoint: a step, 'best', or nothing for the newest.")
flags.DEFINE_string("out", None, "Folder for measure.json.")
flags.DEFINE_bool("compilation_cache", True, "Keep what is compiled in the user's cache folder, for the next start.")


def main(argv: list[str]) -> None:
    """Wires the flags to a measurement."""
    logging.set_verbosity(logging.FATAL)
    with user_errors():
        compilation_cache.switch_on(FLAGS.compilation_cache, warn=say)
        out = None if FLAGS.out is None else local_path(FLAGS.out, "--out")
        if out is not None:
            with writing(out):
                out.mkdir(parents=True, exist_ok=True)
            check_writable(out / "measure.json", "--out")
        if FLAGS.embeddings is not None:
            found = of_arrays(*_read(FLAGS.embeddings))
            about: dict[str, Any] = {"embeddings": FLAGS.embeddings}
        else:
            images = None if FLAGS.images is None else str(local_path(FLAGS.images, "--images"))
            place = local_path(argv[1], "WORKDIR")
            found, about = of_run(place, FLAGS.config, images=images, part=FLAGS.part, step=FLAGS.step)
        print(results.table(found, ()))
        share = found[SHARE]
        print(f"{SHARE}: {'nothing moves' if share is None else f'{share:.4f}'}", flush=True)
        if out is not None:
            replace_file(out / "measure.json", json.dumps(found | about, indent=2) + "\n")
            say(f"{out / 'measure.json'} has these numbers")


def of_run(
    place: Path, config: ml_collections.ConfigDict, *, images: str | None = None, part: str = "test", step: str = ""
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Numbers by the names that summary.json has, and what they are of.

    Args:
      place: folder of a run, or of a checkpoint.
      config: the run's, but for settings of the evaluation and the data.
      images, part, step: as the flags.

    Raises:
      UserError: one line.
    """
    model = trained.load(place, step)
    trained.check_only(model.config, config, "config.evaluate.", "config.data.")
    chosen = image_set.chosen(config, images, part)
    examples = chosen.examples
    dataset = DataSet(config.data.name, examples, examples, examples, {}, chosen.skipped)
    experiment = trained.without_data(config)._replace(mesh=sharding.make_mesh(), dataset=dataset)
    say(f"{config.evaluate.num_augmentations} augmentations of {chosen.name}, step {model.step} of {model.workdir}")
    embedded = Evaluation(experiment).embedded(model.step, model.variables)
    settings = config.evaluate
    moved = (embedded.drawn(draw, "equivariance") for draw in equivariance_error.draws(embedded, settings))
    shares = [share_explained(embedded.part("test").embeddings, after) for after in moved]
    known = [share for share in shares if share is not None]
    found: dict[str, Any] = {SHARE: float(np.mean(known)) if known else None}
    for name in NAMES:
        found |= embedded.once(EVALUATORS[name].run, settings)
    missing = {name: value.reason for name, value in found.items() if isinstance(value, Missing)}
    for name, reason in missing.items():
        found[name] = None
        say(f"{name} could not be measured: {reason}")
    if len(chosen.skipped):
        say(chosen.skipped.summary())
    about = {"images": chosen.name, "test_examples": len(embedded.part("test").rows), "steps": model.step}
    return found, about | {"params_sha256": model.info["params_sha256"], "config": plain(config)}


def of_arrays(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """The same numbers of one augmentation. Nothing is normalised.

    Args:
      before: [n, d].
      after: [n, d], row i of the same input, augmented.
    """
    embeddings = [np.asarray(array, np.float32) for array in (before, after)]
    rows = jax.device_get(equivariance_error.pair(*embeddings))
    few = [array[: equivariance_error.MAX_PAIRWISE] for array in embeddings]
    ratios = np.asarray(metrics.relative_equivariance_ratios(*few))[~np.eye(len(few[0]), dtype=bool)]
    return {
        SHARE: share_explained(*embeddings),
        "wahba_mean": float(rows["wahba"]),
        "wahba_orthogonal_mean": float(rows["wahba_orthogonal"]),
        "displacement_mean": float(rows["displacement"]),
        "relative_equivariance_mean": float(ratios.mean()),
        "relative_equivariance_median": float(np.median(ratios)),
        "relative_equivariance_examples": len(few[0]),
        "test_examples": len(before),
    }


def share_explained(before: np.ndarray, after: np.ndarray) -> float | None:
    """The share of the motion that a rotation explains: fitted on half of the rows, judged on the others; both ways.

        1 - sum |R f - fa|^2 / sum |f - fa|^2

    1: a rotation explains all of it; 0, or below: none.

    Args:
      before: f, [n, d].
      after: fa, [n, d].

    Returns:
      None where nothing moves.
    """
    halves = np.array_split(np.random.default_rng(0).permutation(len(before)), 2)
    left = moved = 0.0
    for fitted, judged in (halves, halves[::-1]):
        rotation = np.asarray(metrics.wahba(before[fitted], after[fitted])[0], np.float64)
        left += np.square(before[judged] @ rotation.T - after[judged]).sum()
        moved += np.square(before[judged].astype(np.float64) - after[judged]).sum()
    return float(1.0 - left / moved) if moved else None


def _read(files: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    if len(files) != 2:
        raise UsageError(f"--embeddings={','.join(files)}: give two files, before.npy,after.npy")
    arrays = []
    for file in files:
        try:
            array = np.load(local_path(file, "--embeddings"), allow_pickle=False)
        except OSError as error:
            raise UsageError(f"--embeddings: {file} can't be read: {error.strerror or error}") from error
        except ValueError as error:
            raise UsageError(f"--embeddings: {file} is no array that NumPy saved: {error}") from error
        if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu" or len(array) < 4:
            what = f"{array.dtype}{list(array.shape)}" if isinstance(array, np.ndarray) else "an archive"
            raise DataError(f"{file} is {what}; give numbers [n, d] with n of at least 4")
        if not np.isfinite(array).all():
            row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
            raise DataError(f"{file} is not finite, first in row {row}")
        arrays.append(array)
    if arrays[0].shape != arrays[1].shape:
        raise DataError(f"{files[0]} is {list(arrays[0].shape)}, {files[1]} {list(arrays[1].shape)}: give equal shapes")
    return arrays[0], arrays[1]


def parse(argv: list[str]) -> list[str]:
    """The flags; a run's settings too, where there is one."""
    if not any(word.lstrip("-").partition("=")[0] == "embeddings" for word in argv if word.startswith("-")):
        return argv[:1] + trained.parse(argv, EXAMPLE)
    words = parse_flags(argv, "", words=True)
    for given, name in ((words[1:], "WORKDIR"), (FLAGS.images, "--images"), (FLAGS.step, "--step")):
        if given:
            fail(f"--embeddings is of two arrays: leave {name} out")
    return words[:1]


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
