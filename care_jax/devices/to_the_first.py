"""What every process has to tell the first one, which speaks and writes for all.

By way of the coordinator and not of the devices: a thread may tell while these compute, and none waits but the first.
"""

import collections
import json
import socket
from typing import Any

from care_jax.data.skipped import SkippedFiles
from care_jax.devices import agreement

_PIECE = 2**18  # characters of one message; longer ones, the coordinator may refuse
# What was told so far, by what it is and by whom: all processes count alike.
_times: collections.Counter[tuple[str, int]] = collections.Counter()


def told(what: str, value: Any) -> list[Any]:
    """All processes call it, equally often for each `what`.

    Args:
      what: is told, for the one who waits.
      value: of JSON's types.

    Returns:
      In the first process the values of all, in their order; in the others nothing but their own.
    """
    index, count = agreement.place()
    if count == 1:
        return [value]
    key = f"to the first/{what}/{_times[what, index]}"
    _times[what, index] += 1
    if index:
        text = json.dumps(value)
        pieces = [text[i : i + _PIECE] for i in range(0, len(text), _PIECE)]
        for number, piece in enumerate(pieces):
            agreement.put(f"{key}/{index}/{number}", [len(pieces), piece])
        return [value]
    return [value, *(_received(f"{key}/{i}", f"process {i} to tell {what}") for i in range(1, count))]


def _received(key: str, awaited: str) -> Any:
    text, number, pieces = "", 0, 1
    while number < pieces:
        pieces, piece = agreement.get(f"{key}/{number}", awaited)
        agreement.take_away(f"{key}/{number}")
        text, number = text + piece, number + 1
    return json.loads(text)


def skipped(files: SkippedFiles) -> None:
    """Makes the first process's count of skipped files that of all; each file counts once. All processes call it."""
    if agreement.is_alone():
        return
    by_process = told("its skipped files", {"host": socket.gethostname(), "files": files.unsent()})
    if agreement.place()[0] == 0:
        for index, one in enumerate(by_process):
            files.join(one["files"], by=f"process {index} on {one['host']}")
