"""The command of every experiment: its flags, and the table that `care_jax.sweep` makes of its rows."""

from collections.abc import Callable, Sequence
from pathlib import Path

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from care_jax.command_line import UsageError, given_settings, parse_flags, say, user_errors
from care_jax.devices import compilation_cache
from care_jax.experiment.unused import check_data
from care_jax.storage import local_path
from care_jax.sweep.reuse import finished_in
from care_jax.sweep.table import Results, Table
from care_jax.sweep.tables import Picture, run_table


def start(
    make_table: Callable[[ml_collections.ConfigDict], Table],
    *,
    workdir: str,
    seeds: int = 3,
    picture: Picture | None = None,
    config: str = "configs/digits.py",
    further: Callable[[Table, Results], str] | None = None,
) -> None:
    """Runs an experiment, whose module has defined flags of its own before.

    Args:
      make_table: the configuration of all rows -> the table.
      workdir: where the runs go by default.
      seeds: of training, a row, by default.
      picture: drawn beside the table.
      config: of all rows, by default.
      further: what stands below the table.
    """
    config_flags.DEFINE_config_file("config", config, "The configuration.", lock_config=True)
    flags.DEFINE_string("workdir", workdir, "Folder of the runs and of the table.")
    flags.DEFINE_integer("seeds", seeds, "Training seeds, from 0.", lower_bound=1)
    flags.DEFINE_list(
        "reuse", [], "Folders of other tables, by commas: runs of the same settings are copied from there."
    )
    flags.DEFINE_integer("jobs", 1, "Runs at a time, each with its share of the cores or GPUs.", lower_bound=1)
    flags.DEFINE_bool("compilation_cache", True, "Keep what is compiled in the user's cache folder, for later runs.")
    given = flags.FLAGS

    def main(argv: list[str]) -> None:
        del argv
        logging.set_verbosity(logging.ERROR)  # orbax warns of what is meant
        with user_errors():
            compilation_cache.switch_on(given.compilation_cache, warn=say)
            check_data(given.config, given_settings())
            workdir = local_path(given.workdir, "--workdir")
            reuse = reused(given.reuse)  # before what takes time
            table = make_table(given.config)
            text = run_table(
                table,
                given.config,
                workdir,
                seeds=given.seeds,
                jobs=given.jobs,
                picture=picture,
                reuse=reuse,
                further=further,
            )
            print(text, flush=True)

    app.run(main, flags_parser=lambda argv: parse_flags(argv, f"--config={config}"))


def reused(folders: Sequence[str]) -> list[Path]:
    """Those of `--reuse`.

    Raises:
      UsageError: one of them has no finished run.
    """
    found = [local_path(folder, "--reuse") for folder in folders]
    for folder in found:
        finished_in(folder)
    return found


def own_weight(config: ml_collections.ConfigDict) -> float:
    """lambda, of the rows that have CARE.

    Raises:
      UsageError: it is 0, which is the plain base objective, a row of its own.
    """
    weight: float = config.equivariance.weight
    if not weight:
        raise UsageError("--config.equivariance.weight=0 is a row of its own: leave it out, or give CARE's")
    return weight


def numbers(flag: str, text: str) -> list[float]:
    """Those of a flag, by commas; none of an empty one.

    Raises:
      UsageError: one of them is no number.
    """
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise UsageError(f"{flag}={text}: give numbers with commas, 0,0.1,0.3 for instance") from error


def whole_numbers(flag: str, texts: Sequence[str]) -> list[int]:
    """Those of a flag that takes a list.

    Raises:
      UsageError: one of them is none, or below 1.
    """
    for text in texts:
        if not (text.isascii() and text.isdecimal() and int(text)):
            raise UsageError(f"{flag}={text}: give whole numbers from 1 on with commas, 4,16,64 for instance")
    return [int(text) for text in texts]
