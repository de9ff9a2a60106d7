"""The packages that the commands need and the library does not: `pip install care_jax` leaves them out."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.util import find_spec

# As they are imported; tests/packaging_test.py holds them to the extra "train". Not simplejpeg, which only
# saves time, nor safetensors, which those ask for that meet such a file.
TRAIN = ("absl", "chex", "matplotlib", "ml_collections", "optax", "orbax", "PIL", "sklearn", "tensorboardX", "tqdm")


def require_train() -> None:
    """Ends a command with one line and exit status 2 where a package is missing; call it before they are imported."""
    missing = [name for name in TRAIN if find_spec(name) is None]
    if missing:
        line = f"care_jax: commands need {', '.join(missing)} too: pip install 'care_jax[train]'"
        print(line, file=sys.stderr, flush=True)
        sys.exit(2)


class _Hiding(MetaPathFinder):
    """Finds none of these packages."""

    def __init__(self, names: tuple[str, ...]):
        self._names = names

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"{name} is left out to save time", name=name)


@contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Packages that a library imports where they are installed, for nothing that is used here, take it no time."""
    # Not None in sys.modules: SciPy looks there for an array's type, torch.Tensor say.
    finder = _Hiding(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
