"""Whoever ends, the others know at once and why: one connection from every process to the first, while the run lasts.

Without it a process that waits for a lost one waits for as long as the wait is allowed to last, or JAX ends the
interpreter, with its own words, because the first process is gone.
"""

import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Mapping
from typing import NoReturn

from care_jax.devices.connection import Connection, ForeignError
from care_jax.devices.rendezvous import Peer
from care_jax.errors import printable

# Seconds without a sign of life after which a process counts as lost, and the others end.
SILENCE = 60.0
_SIGN = 10.0  # seconds between two signs of life
# Seconds in which the main thread may meet the same trouble and tell it in its own words.
_GRACE = 0.5
# Seconds that the first process stays for the others to end: JAX would end them otherwise, in its own words.
_LAST = 5.0
GO_ON = "what was saved before is kept: start the same command on every host to go on from there"


def say(text: str) -> None:
    """Prints a line for the user on standard error."""
    print(f"care_jax: {printable(text)}\n", end="", file=sys.stderr, flush=True)


class Watch:
    """A thread that reads from the peers; where one is lost, it ends this process with one line and status 2.

    Args:
      index: of this process.
      count: of processes.
      peers: as `rendezvous.meet` returns them.
      silence: seconds without a sign of life that a peer is allowed.
    """

    def __init__(self, index: int, count: int, peers: Mapping[int, Peer], silence: float = SILENCE):
        self._index, self._count = index, count
        self._silence = silence
        self._hosts = {i: peer.host for i, peer in peers.items()}
        self._peers: dict[Connection, int] = {}
        self._selector = selectors.DefaultSelector()
        for i, peer in peers.items():
            self._peers[peer.connection] = i
            self._selector.register(peer.connection, selectors.EVENT_READ)
        self._done: set[int] = set()
        self._ending = threading.Lock()  # taken by the thread that says the last line
        self._alone = threading.Event()
        self.finished = threading.Event()
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def leave(self, reason: str) -> None:
        """Tells the others why this process ends; then nothing but that is left to do, with a line that says `reason`.

        Where another one is known to have ended before, this call does not return: the line about that one is the last.
        """
        if not self._ending.acquire(blocking=False):
            time.sleep(_LAST + _GRACE + 1.0)
            return
        if self._index == 0:
            self._tell(lost=f"{self._named(0)}, ended: {reason}")
            self._alone.wait(_LAST)
        else:
            self._tell(failed=reason)

    def finish(self) -> None:
        """Returns when every process has come to its end, however long the others take; the order is then JAX's."""
        if self._index == 0:
            self._note_done(0)
        else:
            self._tell(done=True)
        self.finished.wait()

    def wait_for_loss(self) -> None:
        """Returns after some seconds in which nothing was lost: otherwise this process ends meanwhile."""
        time.sleep(_GRACE + 2.5)

    def _run(self) -> None:
        told = time.monotonic()
        while not (self.finished.is_set() and not self._peers):
            self._read(1.0)
            now = time.monotonic()
            if now - told > _SIGN:
                told = now
                self._tell(alive=True)
            for connection, index in list(self._peers.items()):
                if now - connection.heard > self._silence:
                    self._drop(connection)
                    self._lost(index, f"no sign of life for {self._silence:g} s")

    def _read(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            connection: Connection = key.fileobj  # type: ignore[assignment]
            index = self._peers[connection]
            try:
                messages = connection.receive()
            except ForeignError:
                messages = None
            if messages is None:
                self._drop(connection)
                self._lost(index, "its connection broke")
                continue
            for message in messages:
                if "lost" in message:
                    self._end(str(message["lost"]))
                if "failed" in message:
                    self._end(f"{self._named(index)}, ended: {message['failed']}")
                if "done" in message:
                    self._note_done(index)
                if "finished" in message:
                    self.finished.set()

    def _note_done(self, index: int) -> None:
        self._done.add(index)
        if len(self._done) == self._count:
            self._tell(finished=True)
            self.finished.set()

    def _lost(self, index: int, why: str) -> None:
        if not self.finished.is_set():
            self._end(f"{self._named(index)}, is lost ({why}); {GO_ON}")

    def _end(self, text: str) -> None:
        """Ends this process, unless its main thread is doing so already."""
        if self._ending.locked():
            return
        self._tell(lost=text)
        time.sleep(_GRACE)
        if self._ending.acquire(blocking=False):
            say(text)
            self._last(2)

    def _last(self, status: int) -> NoReturn:
        until = time.monotonic() + _LAST
        while self._index == 0 and self._peers and time.monotonic() < until:
            for key, _ in self._selector.select(0.1):
                connection: Connection = key.fileobj  # type: ignore[assignment]
                if _is_gone(connection):
                    self._drop(connection)
        os._exit(status)

    def _drop(self, connection: Connection) -> None:
        self._selector.unregister(connection)
        del self._peers[connection]
        connection.close()
        if not self._peers:
            self._alone.set()

    def _tell(self, **message: object) -> None:
        for connection in list(self._peers):
            connection.send(**message)

    def _named(self, index: int) -> str:
        host = socket.gethostname() if index == self._index else self._hosts.get(index, "")
        return f"process {index} of {self._count}, on {host}"


def _is_gone(connection: Connection) -> bool:
    try:
        return connection.receive() is None
    except ForeignError:
        return True
