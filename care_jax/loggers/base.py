"""What a logger is, and the names that numbers have in it."""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from care_jax.errors import UserError, printable


class LoggerError(UserError):
    """A logger that can't begin: the message names it, and says what to do."""


class Final(NamedTuple):
    """What is known at the end of a run.

    Attributes:
      step: updates made.
      numbers: of summary.json, by its names; those that are finite numbers.
      pictures: PNG files by their names.
      files: summary.json and report.html.
    """

    step: int
    numbers: Mapping[str, float]
    pictures: Mapping[str, bytes]
    files: Sequence[Path]


class Logger(Protocol):
    """Takes what a run tells. Whatever it raises ends it, with a line, and not the run.

    A module of this package has a function `start(workdir, settings, say)` that returns one; `settings` are all of the
    run by their dotted names, `say` is for what its user should know, an address for instance.

    Attributes:
      title: what it is in lines for the user.
    """

    title: str

    def begin(self, step: int) -> None:
        """The rows that follow are of the updates after `step`; those of later ones that there are go."""

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """A row: numbers by their tags."""

    def finish(self, final: Final) -> None:
        """What is known at the end."""

    def close(self, *, failed: bool) -> None:
        """Nothing follows; `failed` where an error ended the run."""


Start = Callable[[Path, Mapping[str, Any], Callable[[str], None]], Logger]

# As `train.loggers` names them -> the package that each needs, with the extra of care_jax that brings it.
LOGGERS = {"tensorboard": ("tensorboardX", "train"), "wandb": ("wandb", "wandb"), "mlflow": ("mlflow", "mlflow")}

# Of a row of training; numbers of the end, which have these names too, are of the whole run.
_GROUPS = {
    "images_per_second": "speed",
    "data_wait_share": "speed",
    "learning_rate": "optimizer",
    "gradient_norm": "optimizer",
}


def tags(numbers: Mapping[str, float], group: str) -> dict[str, float]:
    """Numbers by the names that loggers sort into groups by.

    >>> tags({"loss": 4.0, "learning_rate": 0.1}, "train")
    {'train/loss': 4.0, 'optimizer/learning_rate': 0.1}
    >>> tags({"images_per_second": 900.0}, "final")
    {'final/images_per_second': 900.0}
    """
    groups = _GROUPS if group == "train" else {}
    return {f"{groups.get(name, group)}/{name}": value for name, value in numbers.items()}


def chosen(setting: Sequence[str]) -> tuple[str, ...]:
    """The loggers of `train.loggers`, each once; by commas within one string too, as the command line gives them.

    Raises:
      LoggerError: there is none of that name.

    >>> chosen(["tensorboard,wandb", "wandb"]), chosen([""])
    (('tensorboard', 'wandb'), ())
    """
    names = dict.fromkeys(name.strip() for names in setting for name in names.split(",") if name.strip())
    for name in names:
        if name not in LOGGERS:
            raise LoggerError(f"config.train.loggers names {name!r}; there are {', '.join(LOGGERS)}, and () for none")
    return tuple(names)


def check_installed(names: Sequence[str]) -> None:
    """Raises a `LoggerError` for the first of these loggers whose package is missing."""
    for name in names:
        package, extra = LOGGERS[name]
        found = find_spec(package)
        if found is None or found.origin is None:  # none: a folder of that name that lies here, as wandb leaves one
            raise LoggerError(
                f"config.train.loggers has {name!r}, and {package} is not installed: pip install 'care_jax[{extra}]', "
                "or leave it out"
            )


def run_name(workdir: Path) -> str:
    """What a service calls the run of a folder: its name, and of a sweep's seed that of its combination before it.

    >>> run_name(Path("/runs/sweep/equivariance.weight=0.1/seed=2")), run_name(Path("/runs/digits"))
    ('equivariance.weight=0.1/seed=2', 'digits')
    """
    folder = workdir.resolve()  # "." has no name
    of_seed = folder.name.startswith("seed=")
    return printable(f"{folder.parent.name}/{folder.name}" if of_seed else folder.name)
