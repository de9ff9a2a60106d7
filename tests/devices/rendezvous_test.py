"""Processes that meet, and all that keeps them from it: threads stand for processes, and every one of them is told."""

import errno
import socket
import threading
import time

import pytest

from care_jax.devices import rendezvous
from care_jax.devices.rendezvous import DistributedError, Place, meet


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def place(port, count, index, host="127.0.0.1"):
    return Place(host, port, count, index, f"--coordinator_address={host}:{port}")


def start(*places, timeout=20.0):
    """What `meet` gave each of them, or the line it raised."""
    outcomes = [None] * len(places)

    def run(i):
        try:
            outcomes[i] = meet(places[i], timeout, lambda line: None)
        except DistributedError as error:
            outcomes[i] = str(error)

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(places))]
    for thread in threads:
        thread.start()

    def finish():
        for thread in threads:
            thread.join(timeout=30)
        return outcomes

    return finish


def test_all_meet_and_the_port_is_free_again(port):
    first, second, third = start(*(place(port, 3, i) for i in range(3)))()
    assert sorted(first) == [1, 2] and list(second) == list(third) == [0]
    assert first[1].host == second[0].host == socket.gethostname()
    second[0].connection.send(number=7)
    assert first[1].connection.receive() == [{"number": 7}]
    rendezvous.listen(place(port, 3, 0)).close()


def test_whoever_comes_first_waits(port):
    second = start(place(port, 2, 1))
    time.sleep(0.3)
    assert list(start(place(port, 2, 0))()[0]) == [1]
    assert list(second()[0]) == [0]


def test_two_with_the_same_number(port):
    lines = start(*(place(port, 3, i) for i in (0, 1, 1)))()
    assert len(set(lines)) == 1
    assert lines[0].startswith("two processes have --process_id=1, on") and "from 0 to 2" in lines[0]


def test_another_number_of_processes(port):
    lines = start(place(port, 2, 0), place(port, 3, 1))()
    assert len(set(lines)) == 1
    assert "was started as one of 3 processes, process 0 on" in lines[0] and "as one of 2" in lines[0]


def test_one_that_does_not_come(port):
    lines = start(place(port, 4, 0), place(port, 4, 2), timeout=0.8)()
    assert len(set(lines)) == 1
    assert lines[0].startswith("waited 0.8 s for 4 processes, 2 are here, processes 1, 3 are missing")
    assert f"--coordinator_address=127.0.0.1:{port}" in lines[0]


def test_the_first_does_not_come(port):
    (line,) = start(place(port, 2, 1), timeout=0.3)()
    assert f"127.0.0.1:{port}: process 1 on" in line and "waited 0.3 s for process 0 (Connection refused)" in line


def test_one_that_leaves_while_others_are_waited_for(port):
    waiting = start(place(port, 3, 0))
    connected = _connect(port)
    connected.sendall(b'{"process": 2, "processes": 3, "host": "there"}\n')
    assert b"welcome" in connected.recv(1000)
    connected.close()
    assert waiting()[0].startswith("process 2 on there ended while others were waited for")


def test_the_first_leaves_while_others_are_waited_for(port):
    with socket.create_server(("127.0.0.1", port)) as server:
        waiting = start(place(port, 3, 1))
        connected, _ = server.accept()
        connected.recv(1000)
        connected.sendall(b'{"welcome": "there", "here": 2}\n')
        connected.close()
    assert waiting()[0].startswith("process 0 on there ended while others were waited for")


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"7\n", b"{}\n", b'{"process": "1"}\n', b""])
def test_others_who_try_the_port_are_passed_over(port, said):
    first = start(place(port, 2, 0))
    connected = _connect(port)
    connected.sendall(said)
    if not said:
        connected.close()
    assert list(start(place(port, 2, 1))()[0]) == [0]
    assert list(first()[0]) == [1]


def test_another_program_at_the_address(port, monkeypatch):
    monkeypatch.setattr(rendezvous, "_ANSWER", 0.3)
    with socket.create_server(("127.0.0.1", port)) as server:
        waiting = start(place(port, 2, 1), timeout=0.5)
        server.accept()[0].sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        assert "another program answers there, or a run that has begun already" in waiting()[0]


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_a_port_in_use_is_named(port, host):
    with socket.create_server((host, port)):
        (line,) = start(place(port, 2, 0))()
    assert line.startswith(f"--coordinator_address=127.0.0.1:{port}: port {port} of {socket.gethostname()} is in use")


def test_an_address_to_listen_on_that_is_not_this_machines(port, monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", f"192.0.2.1:{port}")
    with pytest.raises(DistributedError, match=r"JAX_COORDINATOR_BIND_ADDRESS=192.0.2.1:\d+: process 0 can't listen"):
        rendezvous.listen(place(port, 2, 0))


def test_ipv6_may_be_switched_off(port, monkeypatch):
    create = socket.create_server

    def without_ipv6(address, **settings):
        if settings.get("dualstack_ipv6"):
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return create(address, **settings)

    monkeypatch.setattr(socket, "create_server", without_ipv6)
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: True)
    assert list(start(place(port, 2, 0), place(port, 2, 1))()[0]) == [1]


@pytest.mark.parametrize("index", [0, 1])
def test_an_unknown_host_name(port, monkeypatch, index):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(rendezvous, "_UNKNOWN_NAME", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    (line,) = start(place(port, 2, index, "nowhere"))()
    assert line.startswith(f"--coordinator_address=nowhere:{port}: host name 'nowhere': Name or service not known")


def test_waiting_is_said_now_and_again(port, monkeypatch):
    monkeypatch.setattr(rendezvous, "_reminders", lambda: iter([True] + [False] * 1000))
    first, second = [], []
    threads = [
        threading.Thread(target=_raises, args=(place(port, 3, 0), 1.0, first.append)),
        threading.Thread(target=_raises, args=(place(port, 3, 1), 1.0, second.append)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert "waiting for 3 processes, " in first[0] and "missing; at most 1 s" in first[0]
    assert second[0].startswith(("waiting for 3 processes, 2 are here", f"waiting for process 0 at 127.0.0.1:{port}"))


def test_reminders_come_at_growing_intervals(monkeypatch):
    now = iter(range(0, 400))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    due = rendezvous._reminders()
    assert [second for second in range(1, 300) if next(due)] == [5, 15, 35, 75, 135, 195, 255]


def _raises(where, timeout, say):
    with pytest.raises(DistributedError):
        meet(where, timeout, say)


def _connect(port):
    until = time.time() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:
            assert time.time() < until
            time.sleep(0.02)
