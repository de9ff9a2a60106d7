"""The command of every experiment: its flags, and the table that `care_jax.sweep` makes of its rows."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from care_jax.command_line import UsageError, given_settings, parse_flags, say, user_errors
from care_jax.devices import compilation_cache, cores, sharding
from care_jax.experiment import build, choice
from care_jax.experiment.config import leaves
from care_jax.experiment.unused import check_data, unused
from care_jax.storage import local_path
from care_jax.sweep.reuse import finished_in
from care_jax.sweep.table import Results, Table, configured
from care_jax.sweep.tables import Picture, run_table


def start(
    make_table: Callable[[ml_collections.ConfigDict], Table],
    *,
    workdir: str,
    seeds: int = 3,
    picture: Picture | None = None,
    config: str = "configs/digits.py",
    further: Callable[[Table, Results], str] | None = None,
    checked: bool = False,
) -> None:
    """Runs an experiment, whose module has defined flags of its own before.

    Args:
      make_table: the configuration of all rows -> the table.
      workdir: where the runs go by default.
      seeds: of training, a row, by default.
      picture: drawn beside the table.
      config: of all rows, by default.
      further: what stands below the table.
      checked: `make_table` calls `check_given` itself.
    """
    config_flags.DEFINE_config_file("config", config, "The configuration.", lock_config=True)
    flags.DEFINE_string("workdir", workdir, "Folder of the runs and of the table.")
    flags.DEFINE_list("only", [], "Rows to make, by the names of their folders; nothing: all.")
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
            if given.jobs == 1:  # else runs have processes of their own
                cores.share_out(choice.cut_batches(given.config))
            check_term(given.config)
            workdir = local_path(given.workdir, "--workdir")
            reuse = reused(given.reuse)  # before what takes time
            table = chosen(make_table(given.config), given.only)
            if not checked:
                check_given(table, given.config)
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


def chosen(table: Table, only: Sequence[str]) -> Table:
    """The table of the rows of `only`, in the table's order; all where it is empty.

    Raises:
      UsageError: no such row.
    """
    unknown = [name for name in only if name not in table.rows]
    if unknown:
        raise UsageError(f"--only={unknown[0]} is no row; there are {', '.join(table.rows)}")
    return table._replace(rows={name: row for name, row in table.rows.items() if not only or name in only})


def reused(folders: Sequence[str]) -> list[Path]:
    """Those of `--reuse`.

    Raises:
      UsageError: one of them has no finished run.
    """
    found = [local_path(folder, "--reuse") for folder in folders]
    for folder in found:
        finished_in(folder)
    return found


def check_term(config: ml_collections.ConfigDict) -> None:
    """That the rows which are called CARE's will be CARE's.

    Raises:
      UsageError: the configuration has another term.
    """
    if config.equivariance.term != "care":
        raise UsageError(
            f"config.equivariance.term is {config.equivariance.term}, and this table has rows of CARE: add "
            "--config.equivariance.term=care (experiments.methods and benchmark have rows of the others)"
        )


def check_given(table: Table, config: ml_collections.ConfigDict) -> None:
    """That what the command line gave is what the rows have; says what is without effect in all of them.

    Raises:
      UsageError: a setting that every row has a value of its own of.
      ConfigError: a setting of the data that the rows' data lacks.
    """
    given = given_settings()
    if "seed" in given:
        raise UsageError("config.seed is given, but rows have the training seeds from 0 on, as many as --seeds says")
    rows = [configured(config, row.settings, 0) for row in table.rows.values()]
    values, usual = [leaves(row) for row in rows], leaves(config)
    for name in given:
        if all(of_row[name] != usual[name] for of_row in values):
            own = " or ".join(sorted({repr(of_row[name]) for of_row in values}))
            raise UsageError(
                f"config.{name} is given, but every row of this table has its own, {own}: leave it out, or use the "
                "table's flag for it if --help has one"
            )
    for row in rows:
        check_data(row, given)
    lines = [unused(row, given) for row in rows]
    for row in rows if any(lines) else ():
        build.check(row, sharding.make_mesh())  # a mistake is told instead
    for line in dict.fromkeys(line for of_row in lines for line in of_row):
        if all(line in of_row for of_row in lines):
            say(line)


def own_weight(config: ml_collections.ConfigDict) -> float:
    """lambda, of the rows that have CARE.

    Raises:
      UsageError: it is 0, which is the plain base objective, a row of its own.
    """
    weight: float = config.equivariance.weight
    if not weight:
        raise UsageError("--config.equivariance.weight=0 is a row of its own: leave it out, or give CARE's")
    return weight


def own_batch(config: ml_collections.ConfigDict) -> int:
    """Images a step, for a table whose rows cut them into groups.

    Raises:
      UsageError: they would be chosen when a run begins.
    """
    batch: int | None = config.train.batch_size
    if batch is None:
        raise UsageError("config.train.batch_size has no value: give one, --config.train.batch_size=128 for instance")
    return batch


def numbers(flag: str, text: str) -> list[float]:
    """Those of a flag, by commas; none of an empty one.

    Raises:
      UsageError: one of them is no number, or is there twice.
    """
    try:
        found = [float(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise UsageError(f"{flag}={text}: give numbers with commas, 0,0.1,0.3 for instance") from error
    check_once(flag, [f"{number:g}" for number in found])
    return found


def whole_numbers(flag: str, texts: Sequence[str]) -> list[int]:
    """Those of a flag that takes a list.

    Raises:
      UsageError: one of them is none, below 1, or there twice.
    """
    for text in texts:
        if not (text.isascii() and text.isdecimal() and int(text)):
            raise UsageError(f"{flag}={text}: give whole numbers from 1 on with commas, 4,16,64 for instance")
    check_once(flag, [f"{int(text)}" for text in texts])
    return [int(text) for text in texts]


def check_once(flag: str, values: Sequence[str]) -> None:
    """That no value of a flag is there twice: of two rows of one name the first would be lost.

    Args:
      flag: for the message.
      values: as names of rows have them, numbers with six digits.

    Raises:
      UsageError: one is.
    """
    twice = [value for place, value in enumerate(values) if value in values[:place]]
    if twice:
        raise UsageError(
            f"{flag}={','.join(values)}: {twice[0]} is there twice; give each once (of numbers six digits count)"
        )


def check_some(values: Mapping[str, Sequence[object]]) -> None:
    """That flags which rows are made of have values.

    Args:
      values: flag -> its values.

    Raises:
      UsageError: one has none.
    """
    for flag, of_flag in values.items():
        if not of_flag:
            raise UsageError(f"{flag}= is empty, and rows are made of its values: give some, or leave the flag out")
