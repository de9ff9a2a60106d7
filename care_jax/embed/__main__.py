"""The embeddings of any images: `python -m care_jax.embed runs/digits --images=photos --out=photos.npy`.

Without --images: of a part of the run's own data set, which --config.data.root=... may have moved. Settings of the
evaluation may be changed too. `photos.csv` beside the array names the file and the class of each row.

For a run on clouds of points --images is a folder of protein structures, PDB or mmCIF files; of each row `x.csv` names
the file, the chain and its residues.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install("nothing is written, what --out held before is kept; the same command starts anew")
    extras.require_train()

from pathlib import Path

import ml_collections
import numpy as np
from absl import app, flags, logging

from care_jax import trained
from care_jax.command_line import UsageError, say, user_errors
from care_jax.data import DataError
from care_jax.devices import compilation_cache, cores
from care_jax.storage import local_path

EXAMPLE = "care-jax embed runs/digits --images=photos --out=photos.npy"
FLAGS = flags.FLAGS
flags.DEFINE_string("out", None, "File to write: x.npy, with x.csv beside it, or x.parquet.")
flags.DEFINE_string(
    "images",
    None,
    "Folder of images, or of protein structures for a run on clouds, with all below it; none: --part of the run's data "
    "set.",
)
flags.DEFINE_string("part", "test", "Of the run's data set: test, train or pretrain.")
flags.DEFINE_enum("what", "features", ("features", "embeddings"), "What comes before the projection head, or after it.")
flags.DEFINE_string("step", "", "The checkpoint: a step, 'best', or nothing for the newest.")
flags.DEFINE_bool("compilation_cache", True, "Keep what is compiled in the user's cache folder, for the next start.")


def main(argv: list[str]) -> None:
    """Wires the flags to an embedding."""
    logging.set_verbosity(logging.FATAL)
    with user_errors():
        compilation_cache.switch_on(FLAGS.compilation_cache, warn=say)
        cores.share_out()
        if FLAGS.out is None:
            raise UsageError(f"--out is missing: {EXAMPLE} for instance")
        embed(
            local_path(argv[1], "WORKDIR"),
            FLAGS.config,
            local_path(FLAGS.out, "--out"),
            images=trained.images_flag(),
            part=FLAGS.part,
            what=FLAGS.what,
            step=FLAGS.step,
        )


def embed(
    workdir: Path,
    config: ml_collections.ConfigDict,
    out: Path,
    *,
    images: str | None = None,
    part: str = "test",
    what: str = "features",
    step: str = "",
) -> None:
    """Writes the embeddings of a set of images, or of clouds.

    Args:
      workdir: folder of the run, or of a checkpoint.
      config: the run's, but for settings of the evaluation and the data.
      out: the file.
      images, part, what, step: as the flags.

    Raises:
      UserError: one line.
    """
    from care_jax.embed import image_set, writers
    from care_jax.progress import progress

    writers.check(out)
    model = trained.load(workdir, step)
    trained.check_only(model.config, config, "config.evaluate.", "config.data.")
    image_set.tell_if_untrained(model, what)
    chosen = image_set.chosen(config, images, part, model)
    embedder = image_set.make_embedder(model, config, chosen.skipped)
    stream = embedder.stream(model.encoder_variables, chosen.examples)
    say(f"{what} of {chosen.name}, by step {model.step} of {model.workdir}")
    count, width, one = 0, 0, chosen.examples.noun.removesuffix("s")
    unusable: list[int] = []  # numbers in the set of what is not finite
    with writers.writing(out) as writer:
        for rows, features, embeddings in progress(stream, len(chosen.examples), one):
            values = features if what == "features" else embeddings
            if len(rows):
                writer.add(values, chosen.columns(rows))
                count, width = count + len(rows), values.shape[1]
                unusable += [int(row) for row in rows[~np.isfinite(values).all(axis=1)]]
        if not count:
            raise DataError(f"not one of {chosen.name} could be read: {chosen.skipped.summary()}")
    if len(chosen.skipped):
        say(chosen.skipped.summary())
    if unusable:
        say(f"the {what} of {len(unusable):,} of {count:,} are not finite, number {unusable[0]} of the set first")
    print(f"{', '.join(map(str, writers.files(out)))}: {count:,} x {width} {what}", flush=True)


if __name__ == "__main__":
    app.run(main, flags_parser=lambda argv: argv[:1] + trained.parse(argv, EXAMPLE))
