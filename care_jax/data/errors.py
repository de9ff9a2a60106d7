"""What data can be to blame for, by the name that everyone catches it by."""

from collections.abc import Sequence

from care_jax.errors import UserError, printable

_NAMES_SHOWN = 5


class DataError(UserError, ValueError):
    """Data that is missing or unusable: one line that says what, where, and what to do.

    Names of files and classes are in most of them, and may hold anything; what makes one need not escape them.
    """

    def __init__(self, text: str):
        super().__init__(printable(text))


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are.

    >>> some(["a", "b"]), some("abcdefgh")
    ('a, b', 'a, b, c, d, e and 3 more')
    """
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"{', '.join(names[:_NAMES_SHOWN])}{more}"
