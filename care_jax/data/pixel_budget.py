"""How many pixels may be in the making at once: what bounds the memory of many threads that decode."""

import collections
import contextlib
import threading
from collections.abc import Iterator

# Pillow's own threshold for a decompression bomb: a quarter of a GiB of RGB, about 9,459 x 9,459.
MAX_PIXELS = 2**30 // 4 // 3


class PixelBudget:
    """A limit to the sum of the pixels of all images that are decoded at the same time.

    An image waits until its pixels fit, one alone always may. They enter in the order in which they came, so that a
    large one is not kept waiting by the small ones behind it.

    Args:
      limit: pixels.

    >>> budget = PixelBudget(100)
    >>> with budget.taken(60), budget.taken(40):
    ...     budget.used
    100
    >>> with budget.taken(1000):
    ...     budget.used
    1000
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.used = 0
        self._waiting: collections.deque[object] = collections.deque()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Waits until so many pixels fit, and gives them back at the end.

        A thread that takes twice may wait for itself: it should hold one image at a time.
        """
        with self._changed:
            turn = object()
            self._waiting.append(turn)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is turn and self._fits(pixels))
                self.used += pixels
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()  # the next may fit as well
        try:
            yield
        finally:
            with self._changed:
                self.used -= pixels
                self._changed.notify_all()

    def _fits(self, pixels: int) -> bool:
        return not self.used or self.used + pixels <= self.limit


# Of this process: together, images may take what the largest of them takes alone.
DECODING = PixelBudget(MAX_PIXELS)
