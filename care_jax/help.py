"""What `--help` prints: flags, configurations, methods and terms, and every setting with its value and meaning."""

import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections
from absl import flags

_WORDS = ("-h", "--help", "-help", "--helpfull", "--helpshort")
_OURS = ("care_jax", "experiments")
_WIDTH = 100
_COLUMN = 32  # where meanings begin


def is_asked(argv: Sequence[str]) -> bool:
    """Whether one of the arguments asks for help."""
    return any(word in _WORDS for word in argv[1:])


def without(argv: Sequence[str]) -> list[str]:
    """The other arguments."""
    return [word for word in argv if word not in _WORDS]


def text(
    argv: Sequence[str],
    flag_values: flags.FlagValues,
    config: ml_collections.ConfigDict | None = None,
    *,
    shown: Callable[[str], bool] = lambda name: True,
) -> str:
    """The whole of it, at most 100 columns wide.

    Args:
      argv: the command line; its first word names the flags that are the command's own.
      flag_values: of the command.
      config: whose values are shown; None: those of configs/base.py.
      shown: whether a setting is.
    """
    from care_jax import methods
    from care_jax.configs import base
    from care_jax.experiment.bundled import bundled_configs, first_line
    from care_jax.experiment.config import leaves
    from care_jax.experiment.explained import meanings

    defaults = leaves(base.get_config())
    values = leaves(config) if config is not None else defaults
    lines = [*_paragraphs((sys.modules["__main__"].__doc__ or "").strip()), "", "Flags:"]
    own = _flags(argv[0], flag_values)
    for flag in own:
        if not flag.name.startswith("config."):
            name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
            lines += _entry(name, f"{flag.help}{_default(flag)}")
    if any(flag.name == "config" for flag in own):
        lines += ["", "Configurations that come with care_jax, --config=NAME (or a file of your own):"]
        lines += _entries((name, first_line(file)) for name, file in bundled_configs().items())
    for title, registry in (("loss.method", methods.METHODS), ("equivariance.term", methods.TERMS)):
        if shown(title):
            lines += ["", f"--config.{title}=NAME:"]
            lines += _entries((name, (cls.__doc__ or "").partition("\n")[0]) for name, cls in registry.items())
    which = "their defaults" if config is None else "the values of this configuration (*: not the default)"
    lines += ["", *_paragraphs(f"Settings, with {which}; --config.SECTION.SETTING=VALUE changes one:")]
    changed = {name for name, value in values.items() if config is not None and defaults.get(name, value) != value}
    for section, entries in _sections(
        {name: value for name, value in values.items() if shown(name)}, meanings()
    ).items():
        lines += ["", section] if section else [""]
        for key, value, meaning, names in entries:
            lines += _entry(f"{'*' if changed.intersection(names) else ''}{key}={value}", meaning)
    return "\n".join(lines)


def _flags(command: str, flag_values: flags.FlagValues) -> list[flags.Flag]:
    """The command's own and those of our modules; not those that absl and other libraries add."""
    ours = [flag for name, of in flag_values.flags_by_module_dict().items() for flag in of if name.startswith(_OURS)]
    found = {flag.name: flag for flag in (*ours, *flag_values.get_key_flags_for_module(command))}
    return [found[name] for name in sorted(found)]


def _sections(
    values: Mapping[str, Any], meanings: Mapping[str, str]
) -> dict[str, list[tuple[str, str, str, tuple[str, ...]]]]:
    """By section, in the order of configs/base.py: (key, value, meaning, settings) each; the two branches as one."""
    order = {name: i for i, name in enumerate(meanings)}
    first, second = "augment.invariance.", "augment.equivariance."
    together = "augment.invariance and augment.equivariance (first | second where they differ)"
    found: dict[str, list[tuple[str, str, str, tuple[str, ...]]]] = {}
    for name in sorted(values, key=lambda name: (name.startswith((first, second)), order.get(name, len(order)))):
        section, _, key = name.rpartition(".")
        names: tuple[str, ...] = (name,)
        value = _value(values[name])
        if name.startswith(second) and first + key in values:
            continue
        if name.startswith(first) and second + key in values:
            names, section, other = (name, second + key), together, _value(values[second + key])
            value = value if value == other else f"{value} | {other}"
        found.setdefault(section, []).append((key, value, meanings.get(name, ""), names))
    return found


def show(text: str) -> None:
    """Prints it; that nobody reads to its end (`| head`) is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        sys.stdout = None  # type: ignore[assignment]


def _width() -> int:
    return min(max(shutil.get_terminal_size((_WIDTH, 24)).columns, 60), _WIDTH)


def _paragraphs(text: str) -> list[str]:
    """Wrapped, but for lines that are indented."""
    joined = re.sub(r"(?<=\S)\n(?=\S)", " ", text).splitlines()
    return [part for line in joined for part in ([line] if line[:1] in ("", " ") else textwrap.wrap(line, _width()))]


def _default(flag: flags.Flag) -> str:
    return (
        ""
        if not flag.default or not isinstance(flag.default, (str, int, float)) or flag.boolean
        else f" (default: {flag.default})"
    )


def _entries(entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, meaning in entries:
        yield from _entry(name, meaning, 20)


def _entry(name: str, meaning: str, column: int = _COLUMN) -> list[str]:
    """The name, and beside it what it means; below it where it is too long for that."""
    lines = textwrap.wrap(meaning, _width() - column, break_long_words=False, break_on_hyphens=False)
    name = f"  {name}"
    if not lines:
        return [name]
    head = [f"{name:{column}}{lines.pop(0)}"] if len(name) < column else [name]
    return [*head, *(f"{'':{column}}{line}" for line in lines)]


def _value(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"({','.join(map(_value, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return str(value)
