"""The configurations that come with care_jax, and what one of them, or a run, sets.

    care-jax configs
    care-jax configs digits
    care-jax configs runs/mine
    care-jax configs image_folder --out=my_config.py

Without a word: their names. With a name, a file or the folder of a run: the settings in which it differs from
configs/base.py. --out copies the file, to begin one of your own with.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install("nothing is written")
    extras.require_train()

import runpy
from pathlib import Path
from typing import Any

import ml_collections
from absl import app, flags

from care_jax import trained
from care_jax.command_line import UsageError, fail, parse_flags, say, user_errors
from care_jax.configs import base
from care_jax.experiment.bundled import bundled_configs, first_line
from care_jax.experiment.config import differences, read_config
from care_jax.storage import check_writable, local_path, replace_file

FLAGS = flags.FLAGS
flags.DEFINE_string("out", None, "Copy the configuration to this file, which must not be there.")


def main(argv: list[str]) -> None:
    """Wires the words to what is printed."""
    with user_errors():
        if len(argv) > 1:
            show(argv[1], None if FLAGS.out is None else local_path(FLAGS.out, "--out"))
            return
        if FLAGS.out is not None:
            raise UsageError("--out is for one of them: care-jax configs digits --out=my_config.py")
        width = max(map(len, bundled_configs()))
        for name, file in bundled_configs().items():
            print(f"{name:{width}}  {first_line(file)}")
        print("\ncare-jax configs NAME shows what one sets; care-jax train --config=NAME --workdir=FOLDER trains")


def show(name: str, out: Path | None = None) -> None:
    """Prints what differs from configs/base.py, a setting a line; copies the file where `out` is given.

    Args:
      name: of a bundled configuration, or a path to a file or to a run.
      out: a file that is not there yet.

    Raises:
      UserError: one line.
    """
    file = bundled_configs().get(name, local_path(name, "NAME"))
    if file.is_dir():
        if out is not None:
            raise UsageError(f"--out copies a configuration file; {name} is a folder")
        config: Any = read_config(file) if (file / "config.json").exists() else trained.config_of(file)
    else:
        config = _read(file, name)
    for line in differences(base.get_config().to_dict(), config.to_dict()):
        print(line)
    if out is None:
        return
    if out.exists():
        raise UsageError(f"--out={out} is there already: give another name")
    check_writable(out, "--out")
    replace_file(out, file.read_bytes())
    say(f"{out} is a copy of {file}: --config={out}")


def _read(file: Path, name: str) -> ml_collections.ConfigDict:
    if not file.exists():
        raise UsageError(f"{name} is no configuration, no file and no run; there are {', '.join(bundled_configs())}")
    try:
        config = runpy.run_path(str(file))["get_config"]()
    except Exception as error:  # the file is code, and can raise anything
        raise UsageError(f"{name} is no configuration file ({type(error).__name__}: {error})") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise UsageError(f"{name}: get_config() gives no ConfigDict; take a file of configs/ as a pattern")
    return config


def parse(argv: list[str]) -> list[str]:
    """The words, of which there may be one."""
    words = parse_flags(argv, "", words=True)
    for word in words[2:]:
        fail(f"{word!r} is one word too many: care-jax configs NAME")
    return words


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
