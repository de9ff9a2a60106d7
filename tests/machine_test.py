"""What Linux and the control groups say of the memory, in files that are made here."""

from pathlib import Path

import pytest

from care_jax import machine

GIB = 2**30
NO_LIMIT = 9223372036854771712  # what version 1 writes for none


@pytest.fixture
def linux(tmp_path, monkeypatch):
    """`linux(groups, files)`: 64 GiB available; lines of /proc/self/cgroup, and files below /sys/fs/cgroup."""

    def make(groups: str, files: dict[str, object]) -> Path:
        (tmp_path / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:   {64 * GIB // 1024} kB\n")
        (tmp_path / "cgroup").write_text(groups)
        for name, content in files.items():
            file = tmp_path / "groups" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{content}\n")
        monkeypatch.setattr(machine, "_MEMINFO", tmp_path / "meminfo")
        monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "cgroup")
        monkeypatch.setattr(machine, "_GROUPS", tmp_path / "groups")
        monkeypatch.setattr(machine, "_physical", lambda: 100 * GIB)
        return tmp_path

    return make


def _v2(folder: str, limit: object, used: int, copies: int = 0) -> dict[str, object]:
    files = {"memory.max": limit, "memory.current": used, "memory.stat": f"file 9\ninactive_file {copies}\nx 1"}
    return {f"{folder}/{name}": content for name, content in files.items()}


def _v1(folder: str, limit: int, used: int, copies: int = 0) -> dict[str, object]:
    stat = f"inactive_file 7\ntotal_inactive_file {copies}"
    files = {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used, "memory.stat": stat}
    return {f"memory/{folder}/{name}": content for name, content in files.items()}


@pytest.mark.parametrize(
    ("groups", "files", "available", "memory"),
    [
        ("0::/\n", {}, 64, 100),
        ("0::/job\n", _v2("job", "max", GIB), 64, 100),
        ("0::/job\n", _v2("job", 8 * GIB, 3 * GIB), 5, 8),
        ("0::/job\n", _v2("job", 8 * GIB, 3 * GIB, GIB), 6, 8),  # copies of files make room
        ("0::/job/step\n", _v2("job", 8 * GIB, 3 * GIB) | _v2("job/step", "max", GIB), 5, 8),  # the group around it
        ("0::/of/the/host\n", _v2(".", 8 * GIB, 3 * GIB), 5, 8),  # a container sees its own group as the root
        ("0::/job\n", _v2("job", 8 * GIB, 9 * GIB), 0, 8),
        ("4:cpu:/x\n3:blkio,memory:/job\n0::/\n", _v1("job", 8 * GIB, 3 * GIB, GIB), 6, 8),
        ("3:memory:/of/the/host\n", _v1(".", 8 * GIB, 3 * GIB), 5, 8),
        ("3:memory:/job\n", _v1("job", NO_LIMIT, 3 * GIB), 64, 100),
        ("0::/job\n", _v2("job", "nonsense", 1) | {"job/memory.current": "nonsense"}, 64, 100),
    ],
)
def test_what_is_left(linux, groups, files, available, memory):
    linux(groups, files)
    assert (machine.available_memory() / GIB, machine.memory() / GIB) == (available, memory)


def test_elsewhere_it_is_all_there_is(linux):
    folder = linux("", {})
    (folder / "meminfo").unlink()
    (folder / "cgroup").unlink()
    assert machine.available_memory() == machine.memory() == 100 * GIB


def test_this_machine_has_some():
    assert 0 < machine.available_memory() <= machine.memory()
