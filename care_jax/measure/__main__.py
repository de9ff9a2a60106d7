"""How nearly augmentations rotate embeddings: of a run, a network by name, a Python function, or of two arrays.

    care-jax measure runs/digits --images=photos --out=measured
    care-jax measure --model=timm:vit_tiny_patch16_224 --weights=vit.safetensors --images=photos --out=measured
    care-jax measure --function=package.module:function --data=digits --augmentations=hue,rotation
    care-jax measure --embeddings=before.npy,after.npy

A run may be on clouds of points; its augmentations are then those of clouds, and --images is a folder of structures.
A function takes images [b, h, w, 3], floats in [0, 1], and gives numbers [b, d]. Of two arrays [n, d], row i of the
second embeds the augmented input that row i of the first embeds. Prints a table; --out=DIR gets measure.json and the
pictures, measure.html.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install("nothing is written; the same command starts anew")
    extras.require_train()

import json
import math
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ml_collections
from absl import app, flags, logging

from care_jax import trained
from care_jax.command_line import UsageError, fail, parse_flags, say, user_errors
from care_jax.devices import compilation_cache, cores
from care_jax.embed import image_set
from care_jax.evaluate import results, strengths
from care_jax.experiment.settings import of_clouds
from care_jax.measure import arrays, draws, encoders, images, numbers, page, sweep, table, torch_encoders
from care_jax.measure.encoders import WHAT, Encoder
from care_jax.measure.images import Images
from care_jax.measure.numbers import SHARE
from care_jax.storage import folder_for, local_path, replace_file, writing_to
from care_jax.workdir import plain

EXAMPLE = "care-jax measure runs/digits, or care-jax measure --embeddings=before.npy,after.npy,"
FILES = ("measure.json", "measure.html")
FLAGS = flags.FLAGS
flags.DEFINE_string("model", None, "A network in the place of a run: timm:NAME or torchvision:NAME.")
flags.DEFINE_string("weights", None, "Its state dict, .pth or .safetensors; none: random weights.")
flags.DEFINE_string("function", None, "A Python function in the place of a run, package.module:function.")
flags.DEFINE_integer("image_size", None, "Side of the images that --function gets; none: as it says, or 224.", 1)
flags.DEFINE_list("embeddings", None, "Two files of arrays [n, d], .npy: before and after one augmentation.")
flags.DEFINE_string(
    "images",
    None,
    "Folder of images, or of protein structures for a run on clouds, with all below it; none: --part of the run's data "
    "set.",
)
flags.DEFINE_string("data", None, "A data set by name, for --model and --function: digits for instance.")
flags.DEFINE_string("part", "test", "Of the data set: test, train or pretrain.")
flags.DEFINE_integer("num_images", 512, "At most so many images, or clouds, are taken through the augmentations.", 4)
flags.DEFINE_list(
    "augmentations",
    [],
    f"Of {', '.join(strengths.sweeps_of(False))}; for a run on clouds of points of "
    f"{', '.join(strengths.sweeps_of(True))}; empty for all.",
)
flags.DEFINE_list("strengths", [], "Of the one augmentation that is named; empty for its own.")
flags.DEFINE_enum("what", WHAT[0], WHAT, "Of a run: what comes after the projection head, or before it.")
flags.DEFINE_string("step", "", "The checkpoint: a step, 'best', or nothing for the newest.")
flags.DEFINE_integer("batch_size", 128, "Images that --model and --function embed at a time.", 1)
flags.DEFINE_integer("seed", 0, "Of the images drawn, random weights, random strengths, halves and bootstraps.", 0)
flags.DEFINE_string("out", None, "Folder for measure.json and measure.html.")
flags.DEFINE_bool("compilation_cache", True, "Keep what is compiled in the user's cache folder, for the next start.")

# The ways to name an encoder without a run, what that is, and the flags that it has no use for.
_SOURCES = {
    "embeddings": (
        "is of two arrays",
        (
            *("model", "function", "weights", "image_size", "images", "data", "augmentations", "strengths", "step"),
            *("what", "num_images", "part", "batch_size"),
        ),
    ),
    "model": ("is of no run, and has a size of its own", ("function", "image_size", "step", "what")),
    "function": ("is of no run, and has its own weights", ("weights", "step", "what")),
}
_OF_NO_RUN = ("weights", "image_size", "data", "batch_size")


def main(argv: list[str]) -> None:
    """Wires the flags to a measurement."""
    logging.set_verbosity(logging.FATAL)
    with user_errors():
        compilation_cache.switch_on(FLAGS.compilation_cache, warn=say)
        cores.share_out()
        out = None if FLAGS.out is None else local_path(FLAGS.out, "--out")
        with nullcontext() if out is None else folder_for(out, FILES, "--out"):
            found = _found(argv)
            print(table.text(found))
            if "draws" in found:
                drawn = results.table(found["draws"]["numbers"], (), clouds="clouds" in found)
                print(f"\n{found['draws']['of']}:\n{drawn}\n")
            print(table.headline(found), flush=True)
            if out is not None:
                with writing_to(out, "--out"):
                    replace_file(out / FILES[0], json.dumps(_finite(found), indent=2, allow_nan=False) + "\n")
                    replace_file(out / FILES[1], page.text(found))
                say(f"{out / FILES[0]} has these numbers, {out / FILES[1]} the pictures")


def _finite(value: Any) -> Any:
    """The same with None for numbers that are not finite, which are not known, and for which JSON has no word."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _found(argv: list[str]) -> dict[str, Any]:
    if FLAGS.embeddings is not None:
        found = of_arrays(FLAGS.embeddings, seed=FLAGS.seed)
    elif FLAGS.model is not None or FLAGS.function is not None:
        found = of_encoder()
    else:
        found = of_run(local_path(argv[1], "WORKDIR"), FLAGS.config)
    return found | {"versions": {name: version(name) for name in ("jax", "numpy")} | found.get("versions", {})}


def of_arrays(files: list[str], *, seed: int = 0) -> dict[str, Any]:
    """What measure.json holds, of two arrays: one augmentation of unknown strength.

    Raises:
      UserError: one line.
    """
    before, after = arrays.read(files)
    entry = numbers.of_pair(before, after, seed=seed)
    given = {SHARE: entry[SHARE], "strength": "not known", "strengths": [{"strength": None} | entry]}
    return {
        SHARE: entry[SHARE],
        "embeddings": {"n": len(before), "d": before.shape[1]},
        "encoder": {"name": ", ".join(files), "sha256": [arrays.digest(array) for array in (before, after)]},
        "seed": seed,
        "augmentations": {"given": given},
        "draws": {
            "of": "the two arrays; Wahba's errors are judged on the rows that the rotation was fitted to",
            "numbers": draws.of_arrays(before, after),
        },
    }


def of_encoder() -> dict[str, Any]:
    """What measure.json holds, of --model or --function."""
    chosen = strengths.chosen(FLAGS.augmentations, FLAGS.strengths)
    if FLAGS.images is None and FLAGS.data is None:
        raise UsageError("say which images: --images=FOLDER, or --data=digits or another data set by name")
    if FLAGS.model is not None:
        weights = None if FLAGS.weights is None else local_path(FLAGS.weights, "--weights")
        encoder = torch_encoders.of_model(FLAGS.model, weights=weights, seed=FLAGS.seed)
    else:
        encoder = encoders.of_function(FLAGS.function, FLAGS.image_size)
    there = images.anywhere(encoder, trained.images_flag(), FLAGS.data, FLAGS.part)
    drawn = images.draw(there, encoder, num_images=FLAGS.num_images, seed=FLAGS.seed)
    return _swept(encoder, drawn, chosen, FLAGS.batch_size)


def of_run(place: Path, config: ml_collections.ConfigDict) -> dict[str, Any]:
    """What measure.json holds, of a run or a checkpoint.

    Args:
      place: its folder.
      config: the run's, but for settings of the evaluation and the data.

    Raises:
      UserError: one line.
    """
    chosen = strengths.chosen(FLAGS.augmentations, FLAGS.strengths, clouds=of_clouds(config))
    model = trained.load(place, FLAGS.step)
    trained.check_only(model.config, config, "config.evaluate.", "config.data.")
    image_set.tell_if_untrained(model, FLAGS.what)
    there, side = images.of_run(model, config, trained.images_flag(), FLAGS.part)
    batch_size = min(config.evaluate.batch_size, FLAGS.num_images, len(there.examples))
    encoder = encoders.of_run(model, config, what=FLAGS.what, batch_size=batch_size)
    drawn = images.draw(there, encoder, num_images=FLAGS.num_images, seed=FLAGS.seed, side=side)
    found = _swept(encoder, drawn, chosen, batch_size)
    unit = "unit features" if FLAGS.what == "features" else FLAGS.what
    found["draws"] = {
        "of": f"{unit} under draws of the equivariance branch, on all {there.examples.noun}",
        "numbers": draws.of_run(model, config, there, what=FLAGS.what, side=side),
    }
    return found | {"config": plain(config)}


def _swept(encoder: Encoder, drawn: Images, chosen: dict[str, tuple[float, ...]], batch_size: int) -> dict[str, Any]:
    noun = drawn.chosen.examples.noun
    say(f"{encoder.name}: {', '.join(chosen)} on {len(drawn.rows):,} {noun}")
    found = sweep.measure(encoder, drawn, chosen, batch_size=batch_size, seed=FLAGS.seed)
    if len(drawn.chosen.skipped):
        say(drawn.chosen.skipped.summary())
    about = dict(encoder.about)
    versions = about.pop("versions", {})
    size = {} if encoder.clouds else {"image_size": encoder.image_size, "center_fraction": encoder.center_fraction}
    order = {name: found.pop(name) for name in (SHARE, "embeddings")}
    return (
        order
        | {"encoder": {"name": encoder.name} | size | about}
        | {noun: {"of": drawn.chosen.name, "taken": len(drawn.rows)}, "seed": FLAGS.seed, "versions": versions}
        | found
    )


def parse(argv: list[str]) -> list[str]:
    """The flags; a run's settings too, where there is one."""
    given = {word.lstrip("-").partition("=")[0] for word in argv if word.startswith("-")}
    source = next((name for name in _SOURCES if name in given), None)
    if source is None:
        words = argv[:1] + trained.parse(argv, EXAMPLE)
        if unused := [f"--{name}" for name in _OF_NO_RUN if name in given]:
            fail(f"a run has its own: leave {', '.join(unused)} out (--config.evaluate.batch_size, --images=FOLDER)")
        return words
    words = parse_flags(argv, "", words=True)
    what, without = _SOURCES[source]
    if unused := [*(["WORKDIR"] if words[1:] else []), *(f"--{name}" for name in without if name in given)]:
        fail(f"--{source} {what}: leave {', '.join(unused)} out")
    return words[:1]


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
