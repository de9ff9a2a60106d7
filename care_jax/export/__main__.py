"""Writes a run's weights for torchvision, timm or Flax: `care-jax export runs/digits --to=torch --out=digits.pth`.

The Python that loads the file is printed on standard output: `... > load.py`.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install("the file is the old one or the new; the same command writes it")  # before what takes time
    extras.require_train()

from pathlib import Path
from typing import Any

import ml_collections
from absl import app, flags, logging

import care_jax
from care_jax import storage, trained
from care_jax.command_line import UsageError, say, user_errors
from care_jax.errors import printable
from care_jax.experiment.settings import of_clouds

EXAMPLE = "care-jax export runs/digits --to=torch --out=digits.pth"
FLAGS = flags.FLAGS
flags.DEFINE_string("to", "", "torch or safetensors, which torchvision and timm load; or flax; of clouds flax alone.")
flags.DEFINE_string("out", "", "File to write; one of that name is replaced.")
flags.DEFINE_bool("head", False, "The projection head too, not the backbone alone.")
flags.DEFINE_string("step", "", "The checkpoint: a step, 'best', or nothing for the newest.")


def main(argv: list[str]) -> None:
    """Wires the flags to an export."""
    logging.set_verbosity(logging.FATAL)
    with user_errors():
        if not FLAGS.out:
            raise UsageError(f"--out is missing: {EXAMPLE} for instance")
        place, out = storage.local_path(argv[1], "WORKDIR"), storage.local_path(FLAGS.out, "--out")
        export(place, FLAGS.config, out, to=FLAGS.to, head=FLAGS.head, step=FLAGS.step)


def export(place: Path, config: ml_collections.ConfigDict, out: Path, *, to: str, head: bool, step: str = "") -> None:
    """Writes the weights of a run, and prints the lines that load them.

    Args:
      place: folder of the run, or of a checkpoint.
      config: the run's, but for how an image is cut in evaluation; of clouds of points the run's.
      out: the file.
      to: torch, safetensors or flax.
      head: the projection head too.
      step: as of `trained.load`.

    Raises:
      UserError: one line.
    """
    from care_jax.embed import image_set
    from care_jax.export import files, lines

    clouds = of_clouds(config)
    files.check_kind(to, config.model.backbone)
    storage.check_writable(out, "--out")
    model = trained.load(place, step)
    trained.check_only(model.config, config, *(() if clouds else ("config.evaluate.center_fraction",)))
    if head:
        image_set.tell_if_untrained(model, "embeddings", instead="without --head the file holds what was trained")
    settings = {name: config.model[name] for name in ("width", "pooling" if clouds else "stem")}
    preprocessing = files.describe(config)
    run = {
        "care_jax": care_jax.__version__,
        "step": model.step,
        "params_sha256": model.info["params_sha256"],
        "backbone": config.model.backbone,
        **settings,
    }
    written: Any = model.encoder.head if head else None
    if to == "flax":
        blocks = lines.flax_lines(config.model.backbone, settings, tuple(config.extensions), str(out), written)
    else:
        blocks = lines.torch_lines(
            model.encoder.backbone, preprocessing, str(out), safetensors=to == "safetensors", head=written
        )
    if different := files.enlarged(config):
        say(different)
    replaced = out.exists()
    try:
        count = files.write(out, to, model.encoder_variables, head=head, preprocessing=preprocessing, run=run)
    except OSError as error:
        raise UsageError(f"--out={out}: can't be written: {error.strerror}; what was there before still is") from error
    parts = f"{config.model.backbone}{' and its projection head' if head else ''}"
    say(f"{out}{', replaced' if replaced else ''}: {parts} of step {model.step}, {count} arrays, {_size(out)}")
    print(f"# {printable(str(out))}: {parts}, step {model.step} of {printable(str(model.workdir))}")
    for name, code in blocks.items():
        print(f"\n# {_TITLES[name]}\n{code}", end="", flush=True)


_TITLES = {
    "torchvision": "torchvision:",
    "timm": "timm:",
    "Flax": "Flax:",
    "files": "How image files became 8-bit RGB when the run was evaluated:",
    "preprocessing": "What the images went through when the run was evaluated:",
}


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


if __name__ == "__main__":
    app.run(main, flags_parser=lambda argv: argv[:1] + trained.parse(argv, EXAMPLE))
