"""What the commands share: a mistake of the user's ends with one line on standard error and exit status 2."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from absl import flags


class UsageError(ValueError):
    """A command line that can't be run as it is."""


def fail(message: str) -> NoReturn:
    """Prints one line and leaves with exit status 2."""
    line = re.sub(r"\s+", " ", message).strip()
    print(f"care_jax: {line}", file=sys.stderr)
    sys.exit(2)


def say(text: str) -> None:
    """Prints a line for the user on standard error: standard output belongs to whoever pipes it."""
    print(f"care_jax: {text}", file=sys.stderr, flush=True)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turns the errors that a user can cause into one line and exit status 2; all others keep their traceback."""
    from care_jax.config import ConfigError
    from care_jax.data import DataError
    from care_jax.train.checkpoint import CheckpointError
    from care_jax.train.loop import NonFiniteLossError

    try:
        yield
    except (ConfigError, DataError, CheckpointError, NonFiniteLossError, UsageError) as error:
        fail(str(error))


def parse_flags(argv: list[str], example: str) -> list[str]:
    """absl's parser, but what ml_collections raises for a bad override becomes one line.

    Args:
      argv: the command line.
      example: of the flag that must be there, for the message.

    Returns:
      The arguments that are not flags.
    """
    try:
        rest = flags.FLAGS(argv)
        if "config" in flags.FLAGS and flags.FLAGS["config"].value is not None:
            # A file that could not be loaded only says so when it is looked into.
            flags.FLAGS["config"].value.keys()
    except (AttributeError, KeyError) as error:
        fail(_unknown_setting(argv, str(error)))
    except (flags.Error, OSError, TypeError, ValueError) as error:
        fail(str(error))
    if len(rest) > 1:
        fail(f"{rest[1]!r} is not a flag; settings are given as --config.section.key=value")
    if "config" in flags.FLAGS and flags.FLAGS["config"].value is None:
        fail(f"--config is missing: a configuration file, {example} for instance")
    return rest


def _unknown_setting(argv: list[str], message: str) -> str:
    """ml_collections names only the part of the key that it missed; the whole flag is easier to find."""
    named = re.search(r"(\w+)", message.replace("\\'", "'"))
    key = named.group(1) if named else ""
    flag = next((word for word in argv if key in re.split(r"[.=]", word.partition("=")[0])), key)
    hint = re.search(r"Did you mean \"(\w+)\"", message)
    return f"{flag}: {key!r} is not a setting" + (
        f"; did you mean {hint.group(1)!r}?" if hint else "; configs/base.py lists them all"
    )
