"""Markdown for BENCHMARKS.md: tables, and the line that says where and when their numbers were taken."""

import platform
import subprocess
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from benchmarks.settings import available_cores


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; every row has as many cells as the header.

    >>> print(table(["side", "seconds"], [["ours", 1.5]]))
    | side | seconds |
    |---|---|
    | ours | 1.5 |
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row of {len(row)} cells under a header of {len(header)}: {row}")
    lines = [header, None, *rows]
    return "\n".join("|" + "---|" * len(header) if row is None else f"| {' | '.join(map(str, row))} |" for row in lines)


def significant(value: float | None, digits: int = 3) -> str:
    """Few digits and no exponent; a dash where there is no number.

    >>> significant(0.012345), significant(1234.5), significant(None)
    ('0.0123', '1234', '–')
    """
    if value is None:
        return "–"
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    decimals = max(digits - 1 - int(np.floor(np.log10(abs(value)))), 0)
    return f"{value:.{decimals}f}"


def spread(times: Sequence[float]) -> tuple[str, str]:
    """The median, and "fastest – slowest", in the unit of `times`."""
    return significant(float(np.median(times))), f"{significant(min(times))} – {significant(max(times))}"


def provenance(device: str, packages: Sequence[str]) -> str:
    """One line: date, device, cores, commit and versions."""
    versions = []
    for name in packages:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return (
        f"{time.strftime('%Y-%m-%d')}, {device}, {available_cores()} {platform.machine()} CPU cores, "
        f"commit {commit()}, {', '.join(versions)}"
    )


def commit() -> str:
    """The short hash of the commit checked out, "+" after it where files differ from it; "unknown" without git."""
    try:
        hash_ = _git("rev-parse", "--short", "HEAD")
        return hash_ + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=Path(__file__).parent, check=True, capture_output=True, text=True, timeout=20
    )
    return done.stdout.strip()


def deliver(text: str, out: str | None) -> None:
    """Prints the text, and appends it to the file `out` if there is one."""
    print(text, flush=True)
    if out:
        with open(out, "a", encoding="utf-8") as file:
            file.write(f"\n{text}\n")
