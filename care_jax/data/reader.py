"""Examples read one by one, the unreadable ones counted and replaced."""

from care_jax.data.decode import SourceImage, UnreadableImageError
from care_jax.data.errors import DataError
from care_jax.data.examples import Examples
from care_jax.data.files import check_own_fault
from care_jax.data.skipped import SkippedFiles


class Reader:
    """Examples of which the unreadable ones are counted and, where a batch must be full, replaced.

    Attributes:
      examples: resident or encoded.
      failure: what ended reading, if anything did. Kept, not raised: what a callback of `tf.data` raises arrives as the
        text of another exception, after a page of log.
    """

    def __init__(self, examples: Examples, skipped: SkippedFiles | None):
        self.examples = examples
        self.failure: DataError | MemoryError | None = None
        self._skipped = SkippedFiles() if skipped is None else skipped
        self._unreadable: set[int] = set()

    def open(self, index: int) -> SourceImage:
        """Image `index`, its pixels not yet decoded.

        Raises:
          UnreadableImageError: the file can't be read, by its own fault, or holds no image.
          DataError: the file has changed since the data set was loaded, or can't be read now; kept as the failure too.
        """
        if self.examples.resident:
            return SourceImage.from_pixels(self.examples.pixels[index])
        try:
            data = self._read(index)
        except DataError as error:
            self.failure = self.failure or error
            raise
        return SourceImage.from_bytes(data)

    def _read(self, index: int) -> bytes:
        images = self.examples.encoded
        try:
            return images.read(index)
        except OSError as error:
            check_own_fault(images.name(index), error)
            raise UnreadableImageError(f"unreadable: {error.strerror or error}") from error

    def skip(self, index: int, error: UnreadableImageError) -> None:
        """Counts image `index` as skipped."""
        self._unreadable.add(index)
        name = f"image {index}" if self.examples.resident else self.examples.encoded.name(index)
        self._skipped.add(name, str(error))

    def open_readable(self, index: int) -> tuple[int, SourceImage] | None:
        """Image `index` or, if that is known or found to be unreadable, the next in index order that isn't.

        None, and a `failure`, if no image at all is readable, the data set has changed, or its files can't be read now.

        Returns:
          (its index, the image).
        """
        for candidate in range(index, index + len(self.examples)):
            candidate %= len(self.examples)
            if self.failure is not None:
                return None  # nobody will use what is made of this batch
            if candidate in self._unreadable:
                continue
            try:
                return candidate, self.open(candidate)
            except UnreadableImageError as error:
                self.skip(candidate, error)
            except DataError:
                return None
        self.failure = DataError(f"no image can be decoded: {self._skipped.summary()}")
        return None

    def raise_failure(self) -> None:
        """Raises the failure, if there is one: a DataError, or a MemoryError."""
        if self.failure is not None:
            raise self.failure
