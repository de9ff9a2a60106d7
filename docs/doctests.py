"""For the site: a doctest becomes a block of code, wherever it stands in a docstring ("Example:" or none before it)."""

import re
import textwrap
from typing import Any

import griffe

_DOCTEST = re.compile(r"^(?:Example:\n)?( *>>> .*(?:\n.+)*)", re.MULTILINE)


def as_blocks(docstring: str) -> str:
    """Its doctests fenced, without the heading "Example:", which griffe would take for an admonition."""
    return _DOCTEST.sub(lambda found: f"```pycon\n{textwrap.dedent(found[1])}\n```", docstring)


class Doctests(griffe.Extension):
    """Griffe, which reads the docstrings, calls it for each object that it has read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrites the docstring."""
        if obj.docstring:
            obj.docstring.value = as_blocks(obj.docstring.value)
