"""Who is lost, who failed and who is done: what the others say, and that one line is said."""

import os
import socket
import threading
import time

import pytest

from care_jax.devices import relay, watch
from care_jax.devices.connection import Connection, ForeignError
from care_jax.devices.rendezvous import Peer
from care_jax.devices.watch import Watch


@pytest.fixture
def ended(monkeypatch):
    """The lines said, and the statuses that processes (threads, here) ended with."""
    lines, statuses, event = [], [], threading.Event()

    def leave(status):
        statuses.append(status)
        event.set()
        threading.Event().wait()  # as good as an end, for a thread of a test

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(watch, "say", lines.append)
    monkeypatch.setattr(watch, "_GRACE", 0.05)
    monkeypatch.setattr(watch, "_LAST", 0.3)

    def wait(timeout=None):
        assert event.wait(timeout or 20) == (timeout is None)
        return lines, statuses

    yield wait
    for each in _WATCHES:
        each.finished.set()  # what breaks when this test is over is no loss of the next one's


_WATCHES: list[Watch] = []
_ENDS: list[Connection] = []  # kept: one that is forgotten is closed


def start(*arguments, **settings):
    _WATCHES.append(Watch(*arguments, **settings))
    return _WATCHES[-1]


def pair():
    """Both ends of a connection."""
    _ENDS.extend(Connection(one) for one in socket.socketpair(socket.AF_UNIX))
    return _ENDS[-2:]


@pytest.fixture(autouse=True)
def no_delay(monkeypatch):
    monkeypatch.setattr(socket.socket, "setsockopt", lambda *_: None)  # local sockets have none of TCP's


def test_a_connection_that_breaks_is_a_loss(ended):
    near, far = pair()
    start(1, 2, {0: Peer(near, "alpha")})
    far.close()
    lines, statuses = ended()
    assert statuses == [2]
    assert lines == [f"process 0 of 2, on alpha, is lost (its connection broke); {watch.GO_ON}"]


def test_the_first_tells_the_others_who_was_lost(ended):
    one, two = pair(), pair()
    start(0, 3, {1: Peer(one[0], "beta"), 2: Peer(two[0], "gamma")})
    one[1].close()
    lines, _ = ended()
    assert lines[0].startswith("process 1 of 3, on beta, is lost")
    assert two[1].receive() == [{"lost": lines[0]}]


def test_silence_is_a_loss(ended):
    near, far = pair()
    start(0, 2, {1: Peer(near, "beta")}, silence=0.2)
    lines, _ = ended()
    assert lines[0].startswith("process 1 of 2, on beta, is lost (no sign of life for 0.2 s)")
    far.close()


def test_signs_of_life_are_sent(ended, monkeypatch):
    monkeypatch.setattr(watch, "_SIGN", 0.05)
    near, far = pair()
    start(0, 2, {1: Peer(near, "beta")})
    time.sleep(0.1)
    assert {"alive": True} in far.receive()


def test_a_failure_is_told_to_the_others(ended):
    near, far = pair()
    start(0, 2, {1: Peer(near, "beta")})
    failing = start(1, 2, {0: Peer(far, "alpha")})
    failing.leave("no folder images")
    lines, statuses = ended()
    assert lines[0] == "process 1 of 2, on beta, ended: no folder images"
    assert set(statuses) == {2}


def test_the_first_one_stays_until_the_others_know(ended, monkeypatch):
    monkeypatch.setattr(watch, "_LAST", 60.0)
    near, far = pair()
    first = start(0, 2, {1: Peer(near, "beta")})
    leaving = threading.Thread(target=first.leave, args=("the disk is full",))
    leaving.start()
    assert far.receive() == [{"lost": f"process 0 of 2, on {socket.gethostname()}, ended: the disk is full"}]
    leaving.join(timeout=0.1)
    assert leaving.is_alive()
    far.close()
    leaving.join(timeout=20)
    assert not leaving.is_alive()


def test_one_last_line(ended):
    """The main thread has begun to say why it ends: the watch says nothing, though a connection breaks then."""
    near, far = pair()
    one = start(1, 2, {0: Peer(near, "alpha")})
    one.leave("out of memory")
    far.close()
    assert ended(0.2) == ([], [])


def test_all_end_together_and_connections_may_break_then(ended):
    one, two = pair(), pair()
    watches = [
        start(0, 3, {1: Peer(one[0], "beta"), 2: Peer(two[0], "gamma")}),
        start(1, 3, {0: Peer(one[1], "alpha")}),
        start(2, 3, {0: Peer(two[1], "alpha")}),
    ]
    threads = [threading.Thread(target=each.finish) for each in watches]
    for thread in threads[:2]:
        thread.start()
    time.sleep(0.1)
    assert all(thread.is_alive() for thread in threads[:2])  # the third is not yet done
    threads[2].start()
    for thread in threads:
        thread.join(timeout=20)
        assert not thread.is_alive()
    for end in (one[0], two[1]):
        end._socket.shutdown(socket.SHUT_RDWR)
    assert ended(0.2) == ([], [])


def test_one_lost_at_the_end_ends_those_who_are_done(ended):
    near, far = pair()
    done = start(0, 2, {1: Peer(near, "beta")})
    threading.Thread(target=done.finish, daemon=True).start()
    far.close()
    assert "process 1 of 2, on beta, is lost" in ended()[0][0]


def test_a_line_may_come_in_parts():
    near, far = pair()
    for part in (b'{"a": ', b'1}\n{"b"', b": 2}\n"):
        far._socket.sendall(part)
        if part != b'{"a": ':
            break
        assert near.receive() == []
    assert near.receive() == [{"a": 1}]


@pytest.mark.parametrize("said", [b"\x00\x00\x12\x04", b"{]\n", b"3\n", b"[1]\n", b"\n"])
def test_what_is_no_message_is_refused(said):
    near, far = pair()
    far._socket.sendall(said)
    with pytest.raises(ForeignError):
        near.receive()


def test_the_relay_hides_the_end_of_the_other_side():
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(("127.0.0.1", relay.start("127.0.0.1", server.getsockname()[1])))
        far, _ = server.accept()
    near.sendall(b"question")
    assert far.recv(100) == b"question"
    far.sendall(b"answer")
    assert near.recv(100) == b"answer"
    far.close()
    near.settimeout(0.3)
    for _ in range(3):
        near.sendall(b"anyone?")
        with pytest.raises(TimeoutError):
            near.recv(100)


def test_the_relay_passes_on_the_end_of_this_side():
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(("127.0.0.1", relay.start("127.0.0.1", server.getsockname()[1])))
        far, _ = server.accept()
    near.close()
    far.settimeout(20)
    assert far.recv(100) == b""


def test_the_relay_waits_for_a_coordinator_that_is_about_to_start():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    near = socket.create_connection(("127.0.0.1", relay.start("127.0.0.1", port)))
    near.sendall(b"question")
    time.sleep(0.15)
    with socket.create_server(("127.0.0.1", port)) as server:
        far, _ = server.accept()
        assert far.recv(100) == b"question"
