"""What a setting may hold: a rule in words and as a test, and settings that a class declares as its fields."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, get_type_hints


class Rule(NamedTuple):
    """What a value must satisfy.

    Attributes:
      text: in words, as a message goes on after the value: "it must be above 0".
      holds: value -> whether it does.
    """

    text: str
    holds: Callable[[Any], bool]


ANY = Rule("", lambda value: True)
POSITIVE = Rule("it must be above 0", lambda value: value > 0)
SHARE = Rule("it must be at least 0 and at most 1", lambda value: 0 <= value <= 1)


def at_least(low: float) -> Rule:
    """Of numbers."""
    return Rule(f"it must be at least {low:g}", lambda value: value >= low)


def one_of(names: Iterable[str]) -> Rule:
    """Of strings."""
    names = tuple(names)
    return Rule(f"choose one of {', '.join(names)}", lambda value: value in names)


class Setting(NamedTuple):
    """A setting that a class declares, see `setting`; `kind` is its type, that of the field."""

    default: Any
    rule: Rule
    meaning: str
    stated: bool = False
    ignorable: bool = False
    kind: type = float


def setting(default: Any, rule: Rule, meaning: str, *, stated: bool = False, ignorable: bool = False) -> Any:
    """A field of a method or a term that is a setting of the configuration, under the field's name.

    >>> from care_jax.methods import Method
    >>> class Mine(Method):
    ...     name = "mine"
    ...     decay: float = setting(0.9, SHARE, "share of the running mean that an update keeps")
    >>> Mine(decay=0.5).decay, Mine().decay, Mine.settings["decay"].meaning
    (0.5, 0.9, 'share of the running mean that an update keeps')

    Args:
      default: where the configuration has no value.
      rule: of every value.
      meaning: one line, with the unit where there is one; docs/methods.md shows it.
      stated: the configuration holds the default from the start. Else it holds no value (None) until it is given one,
        so that each method that has the setting, one derived from it too, may have a default of its own.
      ignorable: a value is no mistake where the chosen method has no such setting: files for all methods set it.

    Returns:
      A `Setting`, which the class turns into a field; so one may be shared by several classes.
    """
    return Setting(default, rule, meaning, stated, ignorable)


def declared(cls: type, inherited: Mapping[str, Setting]) -> dict[str, Setting]:
    """The settings that a class declares, each of which becomes a field with its default.

    Args:
      cls: before it is made a dataclass.
      inherited: settings of the class that it is derived from, by name. A plain value for one of them is its default
        here.

    Returns:
      By name, those that are inherited and left alone not among them.

    Raises:
      TypeError: one that the configuration can't hold, or a plain value where it states the default.
    """
    found, kinds = {}, get_type_hints(cls)
    for name, value in list(vars(cls).items()):
        if isinstance(value, Setting):
            own, default = value, value.default
        elif name in inherited:
            own, default = inherited[name], value
            if own.stated:
                raise TypeError(
                    f"{cls.__name__}.{name} = {value!r} would change nothing: every configuration states {name}, which "
                    f"is {own.default!r} until it is given a value there; leave the line out, and give it there"
                )
            if not isinstance(value, bool | int | float | str):
                raise TypeError(f"{cls.__name__}.{name} is a {type(value).__name__}; give the setting a plain value")
        else:
            continue
        kind = kinds.get(name)
        if kind not in (bool, int, float, str):
            raise TypeError(f"{cls.__name__}.{name} is a {kind}; make it a bool, int, float or str")
        found[name] = own._replace(default=default, kind=kind)
        cls.__annotations__.setdefault(name, kind)  # or a dataclass keeps the default of the class above
        setattr(cls, name, default)
    return found
