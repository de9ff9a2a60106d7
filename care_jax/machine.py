"""How much memory this machine, or the container that this process is in, has left for it."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
# Version of the control groups -> files of the limit and of what is used, and the line of memory.stat that says how
# much of that is copies of files, which go when memory is asked for.
_FILES = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
          2: ("memory.max", "memory.current", "inactive_file")}  # fmt: skip


def memory() -> int:
    """Bytes that the machine has, or that the control groups allow where that is less."""
    return min([_physical(), *(limit for limit, _ in _limits())])


def available_memory() -> int:
    """Bytes that can be had now without swapping: Linux's own estimate, within the limits of the control groups.

    Without Linux's account of it, all that the machine has.
    """
    found = re.search(r"MemAvailable: +(\d+) kB", _MEMINFO.read_text()) if _MEMINFO.exists() else None
    of_machine = int(found.group(1)) * 1024 if found else _physical()
    return max(min([of_machine, *(limit - used for limit, used in _limits())]), 0)


def _physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _limits() -> Iterator[tuple[int, int]]:
    """Of each group that this process is in, and limits memory: the limit, and what is used of it."""
    for version, folder in _groups():
        limit_file, used_file, cached = _FILES[version]
        try:
            limit = (folder / limit_file).read_text().strip()
            used = int((folder / used_file).read_text())
            copies = re.search(rf"^{cached} (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
        except (OSError, ValueError):  # the group at the root has no such files, and others may be out of sight
            continue
        if limit.isdecimal():  # "max" is none; version 1 writes a number beyond every machine's memory
            yield int(limit), used - (int(copies.group(1)) if copies else 0)


def _groups() -> Iterator[tuple[int, Path]]:
    """Version and folder of the groups, each and those that it lies in."""
    try:
        lines = _OWN_GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version = 1 if controllers else 2
        roots = [_GROUPS / "memory"] if controllers else [_GROUPS, _GROUPS / "unified"]
        for root in roots:
            # Within a container the path may be that of the host: its own group is then the root.
            own = root / path.strip("/")
            for folder in dict.fromkeys([own, *own.parents, root]):
                if folder.is_relative_to(root):
                    yield version, folder
