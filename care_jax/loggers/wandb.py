"""Weights & Biases: `pip install 'care_jax[wandb]'`; WANDB_PROJECT, WANDB_ENTITY and WANDB_MODE as everywhere."""

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import wandb
from PIL import Image

from care_jax.loggers.base import Final, LoggerError, run_name, tags
from care_jax.loggers.kept import keep, kept


def start(workdir: Path, settings: Mapping[str, Any], say: Callable[[str], None]) -> "WeightsAndBiases":
    """Goes on with the run that the workdir began, if it began one."""
    begun = kept(workdir, "wandb")
    try:
        run = wandb.init(
            id=begun or None,
            resume="allow" if begun else None,
            name=run_name(workdir),
            dir=workdir,
            config={name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()},
            settings=wandb.Settings(console="off", silent=True),
        )
    except wandb.errors.Error as error:
        raise LoggerError(
            f"Weights & Biases can't begin ({' '.join(str(error).split())}): wandb login, or WANDB_MODE=offline to "
            "keep the rows in the workdir, or leave 'wandb' out of config.train.loggers"
        ) from error
    keep(workdir, "wandb", run.id)
    say(f"Weights & Biases: {f'offline, in {run.dir}' if run.offline else run.url}")
    return WeightsAndBiases(run)


class WeightsAndBiases:
    """One run there."""

    title = "Weights & Biases"

    def __init__(self, run: "wandb.Run"):
        self._run = run
        # Its own count of steps only grows; a run that goes on makes the steps after its last save again.
        run.define_metric("step")
        run.define_metric("*", step_metric="step")

    def begin(self, step: int) -> None:
        """Rows of steps that are made again stay: they have the same numbers."""

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """A row."""
        self._run.log({"step": step, **numbers})

    def finish(self, final: Final) -> None:
        """Final numbers, pictures and the report."""
        pictures = {f"report/{name}": wandb.Image(Image.open(BytesIO(png))) for name, png in final.pictures.items()}
        self._run.log({"step": final.step, **tags(final.numbers, "final"), **pictures})
        for file in final.files:
            if file.suffix == ".html":
                self._run.log({"step": final.step, "report/page": wandb.Html(str(file), inject=False)})

    def close(self, *, failed: bool) -> None:
        """Waits for what is not sent yet."""
        self._run.finish(exit_code=1 if failed else 0)
