"""What a base objective and a term bring by name, in one: heads, outputs and the loss's terms."""

from collections.abc import Collection, Mapping
from typing import Any

# What a row of metrics.jsonl has beside the terms of the loss.
ROW = ("loss", "step", "gradient_norm", "learning_rate", "images_per_second", "data_wait_share", "online_probe_top1")


def joined(what: str, *parts: Mapping[str, Any], reserved: Collection[str] = ()) -> dict[str, Any]:
    """All parts in one.

    Args:
      what: they are, for the message.
      parts: name -> value.
      reserved: names that are taken already.

    Raises:
      ValueError: two have one name, of which one would replace the other.
    """
    found: dict[str, Any] = {}
    for part in parts:
        for name in part.keys() & {*found, *reserved}:
            raise ValueError(f"two {what}s are called {name!r}: rename that of the method or of the term")
        found |= part
    return found
