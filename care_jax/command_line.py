"""What the commands share: a mistake of the user's ends with one line on standard error and exit status 2."""

import difflib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import ml_collections
from absl import flags, logging
from ml_collections import config_flags

from care_jax import help
from care_jax.errors import UserError, printable, wanting_memory
from care_jax.experiment.bundled import bundled_configs
from care_jax.experiment.guesses import guess

_LONGEST = 2000  # characters of a message
_OVERRIDE = re.compile(r"--?(no)?config\.")
_TO_NONE = re.compile(r"--?config(\.\w+)+=None")
_WELL_FORMED = re.compile(r"--?(no)?config(\.\w+)+(=|$)")


class UsageError(UserError, ValueError):
    """A command line that can't be run as it is."""


def fail(message: str, *, at_once: bool = False) -> NoReturn:
    """Prints one line and leaves with exit status 2.

    Args:
      message: as `printable` makes one line of it.
      at_once: without what Python does at its end.
    """
    line = printable(message)
    if len(line) > _LONGEST:
        line = f"{line[:_LONGEST]}..."
    print(f"care_jax: {line}\n", end="", file=sys.stderr, flush=True)
    if at_once:
        os._exit(2)
    sys.exit(2)


def say(text: str) -> None:
    """Prints a line for the user on standard error: standard output belongs to whoever pipes it."""
    # With its end in one piece: unbuffered, another thread's line (of stops) could come between them.
    print(f"care_jax: {printable(text)}\n", end="", file=sys.stderr, flush=True)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turns the errors that a user can cause into one line and exit status 2; all others keep their traceback.

    Of one process, too little memory becomes a line too, wherever it was wanted.
    So does the loss of another process of a run; then, and wherever one of several processes fails, this one leaves at
    once: an orderly end would wait for the others, and they for it.
    """
    from care_jax.devices import distributed

    try:
        yield
        distributed.finish()
    except UserError as error:
        distributed.leave(str(error))
        fail(str(error), at_once=distributed.is_active())
    except Exception as error:
        if not distributed.is_active():
            if reason := wanting_memory(error):
                fail(
                    f"the memory did not suffice ({reason}). What was written before is kept; where there is more "
                    "memory, or with fewer or smaller images, networks or batches, the same command may go through"
                )
            raise
        lost = distributed.lost_process(error)
        if lost is None:
            traceback.print_exc()
        line = lost or f"this process failed, and the others end with it: {error}"
        distributed.leave(line)
        fail(line, at_once=True)


def parse_flags(
    argv: list[str],
    example: str,
    flag_values: flags.FlagValues = flags.FLAGS,
    settings: ml_collections.ConfigDict | None = None,
    *,
    shown: Callable[[str], bool] = lambda name: True,
    words: bool = False,
) -> list[str]:
    """absl's parser, but whatever is wrong with the flags or the configuration file becomes one line and status 2.

    `-h` and `--help` print what there is, settings too, and end the program with status 0.

    Args:
      argv: the command line.
      example: of the flag that must be there, for the message.
      flag_values: the flags that are defined.
      settings: become flags that change them, where no file has them.
      shown: whether a setting is shown by `--help`.
      words: whether there may be arguments that are no flags.

    Returns:
      The arguments that are not flags.
    """
    asked, argv = help.is_asked(argv), help.without(argv)
    argv, without_value = _settings_to_none(_bundled(argv))
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # ml_collections warns of what is about to be refused
    try:
        if settings is not None:
            config_flags.DEFINE_config_dict("config", settings, lock_config=True, flag_values=flag_values)
        rest = flag_values(argv)
        config = flag_values["config"].value if "config" in flag_values else None
        if config is not None and not isinstance(config, ml_collections.ConfigDict):
            getattr(config, "keys", None)  # a file that could not be loaded only says so when it is looked into
        for name in without_value if isinstance(config, ml_collections.ConfigDict) else ():
            section, _, key = name.rpartition(".")
            values: Any = config
            values = values[section] if section else values
            values[key] = None
    except Exception as error:  # the configuration file is code, and can raise anything
        fail(_told(argv, error, flag_values))
    finally:
        logging.set_verbosity(verbosity)
    if asked:
        help.show(help.text(argv, flag_values, config, shown=shown))
        sys.exit(0)
    if len(rest) > 1 and not words:
        fail(f"{rest[1]!r} is not a flag; settings are given as --config.section.key=value")
    if "config" in flag_values:
        if config is None and not _config_file(argv):
            fail(f"--config is missing: a configuration file, {example} for instance")
        if not isinstance(config, ml_collections.ConfigDict):
            fail(f"{_config_file(argv)}: get_config() gives {_kind(config)}; it must return a ConfigDict")
    return rest


def given_settings(flag_values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """The names of the settings that the command line gave, train.epochs for instance."""
    return list(config_flags.get_override_values(flag_values["config"]))


def _bundled(argv: list[str]) -> list[str]:
    """The arguments, with the name of a bundled configuration replaced by its file; a file of that name goes first."""
    argv = list(argv)
    for i, word in enumerate(argv):
        if not re.match(r"--?config(=|$)", word):
            continue
        flag, given, value = word.partition("=")
        if not given and i + 1 < len(argv):
            value = argv[i + 1]
        file, colon, rest = value.partition(":")
        if not file or os.path.exists(file):
            continue
        bundled = bundled_configs()
        if file not in bundled:
            close = difflib.get_close_matches(Path(file).stem, bundled, n=1)
            meant = f"did you mean {close[0]}? There" if close else "there"
            fail(f"--config={file}: no such file, nor a bundled configuration; {meant} are {', '.join(bundled)}")
        if given:
            argv[i] = f"{flag}={bundled[file]}{colon}{rest}"
        else:
            argv[i + 1] = f"{bundled[file]}{colon}{rest}"
    return argv


def _settings_to_none(argv: list[str]) -> tuple[list[str], list[str]]:
    """Takes `--config.a.b=None` out, which absl's parsers of numbers would refuse: the rest, and the names of settings.

    The last of several values for a setting counts.
    """
    last = {word.partition("=")[0].lstrip("-"): i for i, word in enumerate(argv) if _WELL_FORMED.match(word)}
    taken = {i: word[: -len("=None")].lstrip("-") for i, word in enumerate(argv) if _TO_NONE.fullmatch(word)}
    rest = [word for i, word in enumerate(argv) if i not in taken]
    return rest, [name.removeprefix("config.") for i, name in taken.items() if last[name] == i]


def _told(argv: list[str], error: Exception, flag_values: flags.FlagValues) -> str:
    """What went wrong, where it can be put right: in the configuration file, or in a flag."""
    file, first = _config_file(argv), _first(error)
    reason = f"{type(first).__name__}: {first}"
    # The text of an override may be bad syntax too, but that is raised as another kind of error.
    line = error.lineno if isinstance(error, SyntaxError) else _line_in(file, first)
    if line or isinstance(error, SyntaxError):
        return f"{file}{f', line {line}' if line else ''}: {reason}"
    untyped = re.search(r"Type <class 'NoneType'> of field (config[\w.]+) is not supported", str(error))
    if untyped:
        return (
            f"{untyped.group(1)} is None in {file}, which gives it no type: to change it here, write placeholder(int) "
            "there (or float, str, tuple), as configs/image_folder.py does"
        )
    if "has no attribute 'get_config'" in str(first):
        return f"{file} has no get_config(); take a file of configs/ as a pattern"
    if "Error whilst parsing config file" in str(error):
        return f"--config={file}: {reason}"
    malformed = next((word for word in argv if _OVERRIDE.match(word) and not _WELL_FORMED.match(word)), None)
    if malformed:
        return f"{malformed!r} is not a setting; settings are given as --config.section.key=value"
    if isinstance(error, flags.UnrecognizedFlagError):
        name, value = error.flagname.partition("=")[0], _value_of(argv, error.flagname)
        meant = guess(name, value, _settings(flag_values), flag_values)
        return f"--{name} is no flag; {meant or '--help lists all flags and settings'}"
    if isinstance(error, (AttributeError, LookupError)):
        return _unknown_setting(argv, str(error), flag_values)
    return str(error) or reason


def _config_file(argv: list[str]) -> str:
    """The last file given by --config, without what it passes to get_config; empty if there is none."""
    file = ""
    for i, word in enumerate(argv):
        if re.match(r"--?config(=|$)", word):
            _, given, value = word.partition("=")
            file = value if given else "".join(argv[i + 1 : i + 2])
    return file.partition(":")[0]


def _first(error: BaseException) -> BaseException:
    """The error that the others were raised for."""
    while True:
        before = error.__cause__ or error.__context__
        if before is None:
            return error
        error = before


def _line_in(file: str, error: BaseException) -> int | None:
    """The last line of `file` that the error passed."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if _is_same(f.filename, file)]
    return lines[-1] if lines else None


def _is_same(one: str, other: str) -> bool:
    return bool(other) and os.path.abspath(one) == os.path.abspath(other)


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a value of type {type(value).__name__}"


def _settings(flag_values: flags.FlagValues) -> list[str]:
    """The names of those that there are."""
    from care_jax.configs import base
    from care_jax.experiment.config import leaves

    with suppress(Exception):  # a configuration that could not be loaded
        config: Any = flag_values["config"].value
        return list(leaves(config))
    return list(leaves(base.get_config()))


def _value_of(argv: list[str], flag: str) -> str | None:
    """What a flag was given, behind a = or as the next word; None for nothing."""
    for i, word in enumerate(argv):
        name, given, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name == flag:
            following = "".join(argv[i + 1 : i + 2])
            return value if given else following if following and not following.startswith("-") else None
    return None


def _unknown_setting(argv: list[str], message: str, flag_values: flags.FlagValues) -> str:
    """ml_collections names only the part of the key that it missed; the whole flag is easier to find."""
    from care_jax.experiment.settings import only_of

    looked_up = re.search(r"Attempting to lookup: ([\w.]+)", message)
    named = re.search(r"(\w+)", message.replace("\\'", "'"))
    key = looked_up.group(1) if looked_up else named.group(1) if named else ""
    words = (word for word in argv if _OVERRIDE.match(word))
    flag = next((word for word in words if f".{key}." in f".{word.partition('=')[0]}."), key)
    name = flag.lstrip("-").partition("=")[0]
    if kind := only_of(name.removeprefix("config.")):
        return f"{flag}: {key!r} is a setting of configurations of {kind} alone, and this one lacks it: leave it out"
    hint = re.search(r"Did you mean \"(\w+)\"", message)
    if hint:
        return f"{flag}: {key!r} is not a setting; did you mean {hint.group(1)!r}?"
    meant = guess(name, _value_of(argv, name), _settings(flag_values), ())
    return f"{flag}: {key!r} is not a setting; {meant or '--help lists them all'}"
