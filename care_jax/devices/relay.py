"""A way to JAX's coordinator that does not break when the first process does.

JAX aborts the interpreter, with lines of its own, the moment this connection breaks. Through the relay it does not see
that; the `watch` does, and ends the process with one line.
"""

import socket
import threading
import time
from contextlib import suppress

_RETRY = 0.1  # seconds between two attempts to reach a coordinator that is about to start


def start(host: str, port: int) -> int:
    """Forwards connections to host:port from then on, in threads.

    Args:
      host, port: of JAX's coordinator, which may not be there yet.

    Returns:
      The port of this machine, on 127.0.0.1, to connect to instead.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    _thread(_accept, listener, host, port)
    return listener.getsockname()[1]


def _thread(target: object, *arguments: object) -> None:
    threading.Thread(target=target, args=arguments, name="relay", daemon=True).start()  # type: ignore[arg-type]


def _accept(listener: socket.socket, host: str, port: int) -> None:
    while True:
        _thread(_connect, listener.accept()[0], host, port)


def _connect(near: socket.socket, host: str, port: int) -> None:
    while True:
        try:
            far = socket.create_connection((host, port), timeout=10.0)
            break
        except OSError:  # what it means that it can't be reached is for the watch to say
            time.sleep(_RETRY)
    for one in (near, far):
        one.settimeout(None)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _thread(_to, far, near)
    _from(far, near)


def _to(far: socket.socket, near: socket.socket) -> None:
    """Until JAX closes its side. What can't be delivered any more is lost, and JAX waits for an answer."""
    with suppress(OSError):
        while received := near.recv(2**16):
            with suppress(OSError):
                far.sendall(received)
    near.close()
    with suppress(OSError):
        far.shutdown(socket.SHUT_RDWR)


def _from(far: socket.socket, near: socket.socket) -> None:
    """Until the coordinator is gone; JAX's side stays open."""
    with suppress(OSError):
        while received := far.recv(2**16):
            near.sendall(received)
    far.close()
