"""What all processes of a run take to be equal is compared before the first step: whoever differs is named, with how.

Processes that differ do not fail: they train, and report numbers of no one's settings, or wait for each other for ever.
"""

import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from care_jax.devices import provenance
from care_jax.devices.rendezvous import DistributedError
from care_jax.devices.watch import say

_SHOWN = 5  # differences that are named
_PROCESSES_SHOWN = 4
_ASK = 10_000  # milliseconds of one question to the coordinator
_REMIND = 30.0  # seconds between lines that say who is waited for
# Seconds within which what one host writes is seen by the others.
_SEEN = 30.0
_SHARED = "the folder of process 0"


def check_settings(settings: Mapping[str, Any], workdir: Path) -> None:
    """Compares the settings, the command, the folder, and all programs that the numbers come from.

    Needs no device: it comes before anything in which processes wait for each other.

    Args:
      settings: by name.
      workdir: of the run.

    Raises:
      DistributedError: the processes differ; all of them raise the same line.
    """
    if is_alone():
        return
    agree("settings", {
        **{f"config.{name}": _text(value) for name, value in settings.items()},
        "--workdir": os.path.abspath(workdir) if isinstance(workdir, Path) else str(workdir),
        "command": Path(sys.argv[0]).name,
        **provenance.found(),
    })  # fmt: skip


def check_devices() -> None:
    """Compares kind and number of the devices that each process brings.

    Raises:
      DistributedError: the processes differ; all of them raise the same line.
    """
    if not is_alone():
        local = jax.local_devices()
        agree("devices", {"devices": f"{len(local)} x {local[0].device_kind} ({jax.default_backend()})"})


def check_data(describe: Callable[[], Mapping[str, str]], workdir: Path) -> None:
    """Compares the data, and sees whether the workdir is one folder for all.

    Args:
      describe: gives what the data set consists of, by part; not called where the process is alone.
      workdir: of the run; it is there for the first process.

    Raises:
      DistributedError: the processes differ; all of them raise the same line.
    """
    if is_alone():
        return
    agree("data", describe())
    with _token(workdir) as name:
        agree("folder", {"--workdir": _seen(workdir, name) if name else _SHARED})


def agree(what: str, facts: Mapping[str, str]) -> None:
    """Compares facts between all processes; returns when all have the same.

    Args:
      what: is compared, for those who wait; each only once a run.
      facts: by name; text.

    Raises:
      DistributedError: they differ; the line names the facts, the processes, their hosts and what each has.
    """
    index, count = place()
    own = {"host": socket.gethostname(), "facts": dict(facts)}
    if index:
        put(f"{what}/{index}", own)
        verdict = get(f"{what}/verdict", f"process 0 to compare the {what}")
    else:
        others = [get(f"{what}/{i}", f"process {i} to send its {what}") for i in range(1, count)]
        verdict = difference([own, *others])
        put(f"{what}/verdict", verdict)
    if verdict:
        raise DistributedError(verdict)


def of_the_first(what: str, value: Callable[[], Any]) -> Any:
    """What the first process has, for all.

    Args:
      what: it is, for those who wait; each only once a run.
      value: called by the first process alone; of JSON's types.
    """
    if is_alone():
        return value()
    if place()[0]:
        return get(f"first/{what}", f"process 0 to tell {what}")
    mine = value()
    put(f"first/{what}", mine)
    return mine


def difference(said: list[dict[str, Any]]) -> str:
    """In words, from what each process said: its host and its facts. Empty if all facts are the same."""
    names: dict[str, None] = {}
    for one in said:
        names |= dict.fromkeys(one["facts"])
    lines = []
    for name in names:
        who: dict[str, list[int]] = {}
        for index, one in enumerate(said):
            who.setdefault(one["facts"].get(name, "nothing"), []).append(index)
        if len(who) > 1:
            lines.append(f"{name}: " + ", ".join(f"{value} in {_who(i, said)}" for value, i in who.items()))
    if not lines:
        return ""
    more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return (
        f"the processes of this run differ in {'; '.join(lines[:_SHOWN])}{more}. "
        "Start all with the same command, program and data"
    )


def is_alone() -> bool:
    """Whether this is the only process, which has no one to agree with."""
    return place()[1] <= 1


def _who(indices: list[int], said: list[dict[str, Any]]) -> str:
    shown = ", ".join(f"{index} on {said[index]['host']}" for index in indices[:_PROCESSES_SHOWN])
    more = f" and {len(indices) - _PROCESSES_SHOWN} more" if len(indices) > _PROCESSES_SHOWN else ""
    return f"process{'es' if len(indices) > 1 else ''} {shown}{more}"


def _text(value: Any) -> str:
    return json.dumps(value, default=repr)


@contextmanager
def _token(workdir: Path) -> Iterator[str]:
    """The name of a file that the first process keeps in the folder for so long; for itself, none."""
    if place()[0]:
        yield get("token", "process 0 to write into the workdir")
        return
    for left in workdir.glob(".token-*"):  # by a run that was killed
        left.unlink(missing_ok=True)
    token = workdir / f".token-{secrets.token_hex(8)}"
    token.write_text("seen by all processes of a run if they share this folder")
    try:
        put("token", token.name)
        yield ""
    finally:
        token.unlink(missing_ok=True)


def _seen(workdir: Path, name: str) -> str:
    until = time.monotonic() + _SEEN
    while True:
        try:
            (workdir / name).stat()
            return _SHARED
        except OSError as error:
            if time.monotonic() > until:
                return f"{workdir} without the file that process 0 has just put there ({error.strerror})"
        time.sleep(0.2)


def place() -> tuple[int, int]:
    """The number of this process, and how many there are."""
    # JAX's own answer would start the devices, which wait for each other.
    from jax._src.distributed import global_state

    return global_state.process_id, global_state.num_processes if global_state.client else 1


def _client() -> Any:
    from jax._src.distributed import global_state

    return global_state.client


def put(key: str, value: Any) -> None:
    """Lays a value of JSON's types down where all processes find it; each key once."""
    # JSON in ASCII: a path may hold bytes that are no text.
    _client().key_value_set(f"care_jax/{key}", json.dumps(value))


def take_away(key: str) -> None:
    """Removes what lies there: the coordinator keeps everything else to the end of the run."""
    _client().key_value_delete(f"care_jax/{key}")


def get(key: str, awaited: str) -> Any:
    """What lies there, once it does.

    Waits as long as it takes, for reading data may take hours; a process that is lost ends this one.

    Args:
      key: as of `put`.
      awaited: what is, for those who wait.
    """
    began = reminded = time.monotonic()
    while True:
        try:
            return json.loads(_client().blocking_key_value_get(f"care_jax/{key}", _ASK))
        except RuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
        now = time.monotonic()
        if now - reminded > _REMIND:
            reminded = now
            say(f"waiting for {awaited}, for {now - began:.0f} s now")
