"""A path that the libraries which write checkpoints take as it is.

Orbax looks for files with a pattern that begins with the path, where `[`, `*` and `?` mean something. TensorStore takes
a backslash for a slash, `gs:` for a protocol, and every name for UTF-8. Both write on, to where nothing is found again.
"""

import re
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

from care_jax.train.checkpoint_files import CheckpointError

_PLAIN = re.compile(r"[\w./ ~@%+=,#-]*")


class PlainPath:
    """The path itself where it is plain; else that of a symbolic link, in a new temporary folder, to it.

    Args:
      directory: absolute; made if it needs a link and is missing.

    Attributes:
      path: leads to the directory.
      remove: removes the link, which else goes with this object, or with the process.

    Raises:
      CheckpointError: it needs a link, and none can be made.
    """

    def __init__(self, directory: Path):
        self.path = directory
        self.remove: Callable[[], object] = lambda: None
        if _PLAIN.fullmatch(str(directory)):
            return
        odd = ", ".join(sorted({repr(char) for char in str(directory) if not _PLAIN.fullmatch(char)}))
        refused = f"checkpoints can't be written to {directory}: its path has {odd}, and a link to it"
        remedy = "use a --workdir without, or set TMPDIR to a folder for it"
        directory.mkdir(parents=True, exist_ok=True)
        try:
            holder = tempfile.mkdtemp(prefix="care_jax_")
            self.remove = weakref.finalize(self, shutil.rmtree, holder, ignore_errors=True)
            self.path = Path(holder) / "checkpoints"
            self.path.symlink_to(directory)
        except OSError as error:
            raise CheckpointError(f"{refused} can't be made ({error.strerror}); {remedy}") from error
        if not _PLAIN.fullmatch(holder):
            self.remove()
            raise CheckpointError(f"{refused} would lie in {holder}, which has such a path too; {remedy}")
