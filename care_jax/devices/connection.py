"""A connection between two processes of a run: JSON objects, one a line, over TCP."""

import json
import socket
import threading
import time
from typing import Any

_LONGEST = 2**20  # bytes of a line: what is longer comes from another program
_PATIENCE = 5.0  # seconds to wait for a peer that takes nothing more


class ForeignError(ValueError):
    """What was received is not from a process of this program."""


class Connection:
    """Sends from any thread, receives in one.

    Attributes:
      heard: time (`time.monotonic`) of the last sign of life.
    """

    def __init__(self, connected: socket.socket):
        connected.settimeout(_PATIENCE)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected
        self._sending = threading.Lock()
        self._received = b""
        self.heard = time.monotonic()

    def fileno(self) -> int:
        """What selectors know the socket by."""
        return self._socket.fileno()

    def send(self, **message: Any) -> None:
        """Sends an object; nothing happens where the other side is gone, which `receive` will tell."""
        line = json.dumps(message).encode() + b"\n"
        try:
            with self._sending:
                self._socket.sendall(line)
        except OSError:
            pass

    def receive(self) -> list[dict[str, Any]] | None:
        """The objects that have come; to be called when there is something to read. None: the other side is gone.

        Raises:
          ForeignError: it speaks another language.
        """
        try:
            received = self._socket.recv(2**16)
        except OSError:
            return None
        if not received:
            return None
        self.heard = time.monotonic()
        *lines, self._received = (self._received + received).split(b"\n")
        if len(self._received) > _LONGEST or self._received[:1] not in (b"", b"{"):
            raise ForeignError("no line of this program")
        try:
            messages = [json.loads(line) for line in lines]
        except (ValueError, RecursionError) as error:
            raise ForeignError(str(error)) from error
        if not all(isinstance(message, dict) for message in messages):
            raise ForeignError("not an object")
        return messages

    def close(self) -> None:
        """Ends it; the other side receives None."""
        self._socket.close()
