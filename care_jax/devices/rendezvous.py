"""How the processes of a run find each other, before JAX is told of them.

JAX's own start says nothing while it waits, and ends the interpreter where it waits in vain or its port is taken. So
the first process listens on the port first, counts who comes, and tells every one of them what is wrong.
"""

import dataclasses
import errno
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

from care_jax.devices.connection import Connection, ForeignError
from care_jax.errors import UserError

# Seconds for which a host name may be unknown: where machines start together, names may come later than they.
_UNKNOWN_NAME = 20.0
_RETRY = 0.2  # seconds between two attempts to reach the first process
_ANSWER = 5.0  # seconds for the first line of whoever connected, or was connected to
_SHOWN = 8  # missing processes that are named


class DistributedError(UserError, ValueError):
    """Processes that can't be brought together as asked."""


class Peer(NamedTuple):
    """Another process of the run, and the way to it."""

    connection: Connection
    host: str


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a process meets the others.

    Attributes:
      host, port: of process 0.
      count: of processes.
      index: of this one.
      source: what gave the address, for messages: "--coordinator_address=host:port".
    """

    host: str
    port: int
    count: int
    index: int
    source: str


def meet(place: Place, timeout: float, say: Callable[[str], None]) -> dict[int, Peer]:
    """Returns when all processes are here: the first one's peers are all others, each other one's the first.

    The port is free again then, for JAX.

    Args:
      place: where.
      timeout: seconds to wait at most.
      say: told who is waited for, after some seconds and now and again.

    Raises:
      DistributedError: one line: the port is in use, a process did not come or has left, two have the same number, or
        they do not agree on how many they are. All who are here raise it.
    """
    return _gather(place, timeout, say) if place.index == 0 else _join(place, timeout, say)


def listen(place: Place) -> socket.socket:
    """The first process's socket, on the port that JAX will use.

    Raises:
      DistributedError: the port can't be had; the message names it.
    """
    bind = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", "")
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    try:
        if host not in ("", "::", "0.0.0.0"):
            return socket.create_server((host, int(port)), family=_family(host), backlog=place.count)
        number = int(port or place.port)
        if socket.has_dualstack_ipv6():
            try:
                family = socket.AF_INET6
                return socket.create_server(("::", number), family=family, backlog=place.count, dualstack_ipv6=True)
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:  # IPv6 is known to the system, but switched off
                    raise
        return socket.create_server(("", number), backlog=place.count)
    except (OSError, ValueError, OverflowError) as error:
        where = f"JAX_COORDINATOR_BIND_ADDRESS={bind}" if bind else place.source
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise DistributedError(
                f"{where}: port {port or place.port} of {socket.gethostname()} is in use, by another run or by one "
                "that has not ended yet; give all processes another port"
            ) from error
        reason = getattr(error, "strerror", None) or error
        raise DistributedError(f"{where}: process 0 can't listen there ({reason})") from error


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _gather(place: Place, timeout: float, say: Callable[[str], None]) -> dict[int, Peer]:
    peers: dict[int, Peer] = {}
    strangers: dict[Connection, float] = {}  # who has not yet said which process it is, and until when it may

    def refuse(reason: str) -> NoReturn:
        for connection in [*strangers, *(peer.connection for peer in peers.values())]:
            connection.send(refused=reason)
        raise DistributedError(reason)

    def greet(connection: Connection, hello: dict[str, Any]) -> None:
        index, count, host = (hello.get(name) for name in ("process", "processes", "host"))
        if not isinstance(index, int) or not isinstance(count, int):
            raise ForeignError("no hello")
        if count != place.count:
            refuse(
                f"process {index} on {host} was started as one of {count} processes, process 0 on "
                f"{socket.gethostname()} as one of {place.count}: give all of them the same --num_processes"
            )
        if index in peers:
            refuse(
                f"two processes have --process_id={index}, on {peers[index].host} and on {host}: "
                f"give each its own, from 0 to {place.count - 1}"
            )
        del strangers[connection]
        peers[index] = Peer(connection, str(host))
        connection.send(welcome=socket.gethostname(), here=len(peers) + 1)

    deadline = time.monotonic() + timeout
    due = _reminders()
    _check_name(place, deadline)
    with listen(place) as listener, selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)

        def drop(connection: Connection) -> None:
            selector.unregister(connection)
            strangers.pop(connection, None)
            connection.close()

        while len(peers) < place.count - 1:
            for key, _ in selector.select(0.5):
                if key.fileobj is listener:
                    connection = Connection(listener.accept()[0])
                    strangers[connection] = time.monotonic() + _ANSWER
                    selector.register(connection, selectors.EVENT_READ)
                    continue
                connection = key.fileobj  # type: ignore[assignment]
                try:
                    messages = connection.receive()
                    if messages is None and connection not in strangers:
                        index = next(i for i, peer in peers.items() if peer.connection is connection)
                        host = peers.pop(index).host
                        refuse(f"process {index} on {host} ended while others were waited for: see what it says")
                    if messages is None:
                        drop(connection)
                    for message in messages or ():
                        greet(connection, message)
                except ForeignError:
                    drop(connection)  # someone else's program, trying ports
            now = time.monotonic()
            for connection in [one for one, until in strangers.items() if now > until]:
                drop(connection)
            missing = [number for number in range(1, place.count) if number not in peers]
            if missing and now > deadline:
                refuse(
                    f"waited {timeout:g} s for {_count(place, len(peers) + 1)}, {_missing(missing)}: start every "
                    f"process with {place.source}, and look at what those say"
                )
            if next(due) and missing:
                say(f"waiting for {_count(place, len(peers) + 1)}, {_missing(missing)}; at most {timeout:g} s")
                for peer in peers.values():
                    peer.connection.send(here=len(peers) + 1)
    for peer in peers.values():
        peer.connection.send(go=True)
    return peers


def _check_name(place: Place, deadline: float) -> None:
    """Waits for the first process's host name, which the others look up too."""
    until = min(time.monotonic() + _UNKNOWN_NAME, deadline)
    while True:
        try:
            socket.getaddrinfo(place.host, place.port)
            return
        except (socket.gaierror, UnicodeError) as error:
            if time.monotonic() > until:
                raise _unknown_name(place, error) from error
            time.sleep(_RETRY)


def _unknown_name(place: Place, error: Exception) -> DistributedError:
    reason = getattr(error, "strerror", None) or error
    return DistributedError(f"{place.source}: host name {place.host!r}: {reason}; give a name that all hosts know")


def _join(place: Place, timeout: float, say: Callable[[str], None]) -> dict[int, Peer]:
    began = time.monotonic()
    due = _reminders()
    while True:
        problem = "nothing answers"
        try:
            connected = socket.create_connection((place.host, place.port), timeout=_ANSWER)
        except (socket.gaierror, UnicodeError) as error:  # labels of more than 63 characters are the latter
            problem = f"the host name is not known: {getattr(error, 'strerror', None) or error}"
            if time.monotonic() - began > min(_UNKNOWN_NAME, timeout):
                raise _unknown_name(place, error) from error
        except OSError as error:
            problem = f"{error.strerror or 'nothing answers'}"
        else:
            found = _introduce(Connection(connected), place, timeout, due, say)
            if found:
                return {0: found}
            problem = "another program answers there, or a run that has begun already"
        if time.monotonic() - began > timeout:
            raise DistributedError(
                f"{place.source}: process {place.index} on {socket.gethostname()} waited {timeout:g} s for process 0 "
                f"({problem}): start process 0 on that host, with the same address, and look at what it says"
            )
        if next(due):
            say(f"waiting for process 0 at {place.host}:{place.port} ({problem}); at most {timeout:g} s")
        time.sleep(_RETRY)


def _introduce(
    connection: Connection, place: Place, timeout: float, due: Iterator[bool], say: Callable[[str], None]
) -> Peer | None:
    """The first process, once all are here; None if it is another program."""
    connection.send(process=place.index, processes=place.count, host=socket.gethostname())
    until = time.monotonic() + _ANSWER
    host, here = "", 0
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        while time.monotonic() < until:
            try:
                messages = connection.receive() if selector.select(0.5) else []
            except ForeignError:
                break
            if messages is None and host:
                raise DistributedError(f"process 0 on {host} ended while others were waited for: see what it says")
            if messages is None:
                break
            for message in messages:
                if "refused" in message:
                    connection.close()
                    raise DistributedError(str(message["refused"]))
                if "welcome" in message and not host:
                    # The first process may wait for as long as this one, and its end is noticed.
                    host, until = str(message["welcome"]), time.monotonic() + timeout + _ANSWER
                here = message.get("here", here)
                if "go" in message and host:
                    return Peer(connection, host)
            if host and next(due):
                say(f"waiting for {_count(place, here)}; process 0 on {host} says which are missing")
    connection.close()
    if host:
        raise DistributedError(f"process 0 on {host} does not say whether all processes are here: start them anew")
    return None


def _reminders() -> Iterator[bool]:
    """Whether it is time to say something: after 5 seconds, then at growing intervals of up to a minute."""
    pause = 5.0
    last = time.monotonic()
    while True:
        now = time.monotonic()
        is_due = now - last >= pause
        if is_due:
            last, pause = now, min(2 * pause, 60.0)
        yield is_due


def _count(place: Place, here: int) -> str:
    return f"{place.count} processes, {here} {'is' if here == 1 else 'are'} here"


def _missing(indices: list[int]) -> str:
    named = ", ".join(map(str, indices[:_SHOWN]))
    more = f" and {len(indices) - _SHOWN} more" if len(indices) > _SHOWN else ""
    return f"process{'' if len(indices) == 1 else 'es'} {named}{more} {'is' if len(indices) == 1 else 'are'} missing"
