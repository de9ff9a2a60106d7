"""What was left out of a data set because it could not be used: counted, and told."""

import collections
import threading
from collections.abc import Mapping

from care_jax.data.errors import some


class SkippedFiles:
    """Counts the files of a kind that could not be used: each once, however often it is met, from any thread.

    >>> skipped = SkippedFiles()
    >>> for _ in range(2):
    ...     skipped.add("photos/a.jpg", "truncated")
    >>> len(skipped), skipped.summary()
    (1, 'skipped 1 image file that could not be used (1 truncated), first photos/a.jpg')

    Each process of a run counts what it meets; those counts become one:

    >>> other = SkippedFiles()
    >>> other.add("photos/b.jpg", "truncated")
    >>> skipped.join(other.unsent(), by="process 1 on host1")
    >>> len(skipped), skipped.unsent()
    (2, {'photos/a.jpg': 'truncated'})
    """

    def __init__(self, kind: str = "image file") -> None:
        self._kind = kind
        self._reasons: dict[str, str] = {}
        self._unsent: list[str] = []
        self._by: dict[str, None] = {}
        self._told = 0
        self._lock = threading.Lock()

    def add(self, path: str, reason: str) -> None:
        """Records that `path` was skipped, and why; the first reason given for a path stands."""
        with self._lock:
            if path not in self._reasons:
                self._reasons[path] = reason
                self._unsent.append(path)

    def unsent(self) -> dict[str, str]:
        """path -> reason, of what was added here since this was last asked for."""
        with self._lock:
            paths, self._unsent = self._unsent, []
            return {path: self._reasons[path] for path in paths}

    def join(self, reasons: Mapping[str, str], by: str) -> None:
        """Counts what a process skipped too; a path that is known already, and its reason, stay.

        Args:
          reasons: path -> reason.
          by: the process that met them, for the `summary`.
        """
        with self._lock:
            if reasons:
                self._by.setdefault(by)
            for path, reason in reasons.items():
                self._reasons.setdefault(path, reason)

    def __len__(self) -> int:
        with self._lock:
            return len(self._reasons)

    def __contains__(self, path: str) -> bool:
        with self._lock:
            return path in self._reasons

    @property
    def reasons(self) -> dict[str, str]:
        """path -> reason, sorted by path (a copy)."""
        with self._lock:
            return dict(sorted(self._reasons.items()))

    def news(self) -> str:
        """The `summary` where files were added since this was last asked for; else empty.

        >>> skipped = SkippedFiles()
        >>> skipped.add("photos/a.jpg", "truncated")
        >>> bool(skipped.news()), bool(skipped.news())
        (True, False)
        """
        with self._lock:
            before, self._told = self._told, len(self._reasons)
            has_grown = self._told > before
        return self.summary() if has_grown else ""

    def summary(self) -> str:
        """One line: how many so far, why, and the first of them; empty if none was skipped."""
        reasons = self.reasons
        if not reasons:
            return ""
        counts = collections.Counter(reasons.values())
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items(), key=lambda c: (-c[1], c[0])))
        files = self._kind if len(reasons) == 1 else f"{self._kind}s"
        by = f"; met by {some(list(self._by))}" if self._by else ""
        return f"skipped {len(reasons)} {files} that could not be used ({why}), first {next(iter(reasons))}{by}"
