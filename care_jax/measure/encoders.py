"""What is measured: an encoder as a value, whatever framework it comes from. A run's, and a Python function's."""

import difflib
import hashlib
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from care_jax.command_line import UsageError, say
from care_jax.data import DataError
from care_jax.errors import printable
from care_jax.experiment.settings import of_clouds
from care_jax.metrics.heldout import is_number
from care_jax.trained import Trained

WHAT = ("embeddings", "features")
IMAGE_SIZE = 224  # of a function that says nothing of it
# Two rows of one image may differ by these shares of the rows' spread and of their length: rounding, of bfloat16 too.
_OF_SPREAD, _OF_LENGTH = 1e-2, 1e-3


class Encoder(NamedTuple):
    """Images, or clouds of points, to vectors.

    Attributes:
      name: for messages and the page.
      embed: images [b, s, s, 3] float32 in [0, 1], which it normalises itself, or clouds [b, L, 4] -> [b, d].
      image_size: s, pixels; None where it embeds clouds.
      center_fraction: side of the central square of a photograph that it is shown, as a fraction of the shorter side.
      about: what else is written down of it.
    """

    name: str
    embed: Callable[[np.ndarray], np.ndarray]
    image_size: int | None
    center_fraction: float = 1.0
    about: dict[str, Any] = {}  # noqa: RUF012

    @property
    def clouds(self) -> bool:
        """Whether it embeds clouds of points."""
        return self.image_size is None


def of_run(model: Trained, config: Any, *, what: str = "embeddings", batch_size: int) -> Encoder:
    """The encoder of a run, in evaluation mode.

    Args:
      model: what the run made.
      config: the run's, with settings of the evaluation that may have been changed.
      what: "embeddings", after the projection head, unit rows; or "features", before it.
      batch_size: images or clouds a forward pass; fewer are filled up, so that one shape is compiled.
    """
    clouds = of_clouds(config)
    mean, std = (0.0, 1.0) if clouds else map(np.float32, (config.data.mean, config.data.std))
    # Not closed over: XLA would take the weights for constants, and fold them.
    variables = jax.device_put(model.encoder_variables)

    @jax.jit
    def forward(weights: Any, inputs: jax.Array) -> jax.Array:
        outputs: Any = model.encoder.apply(weights, inputs if clouds else (inputs - mean) / std, train=False)
        return jnp.asarray(outputs[what == "embeddings"])

    def embed(inputs: np.ndarray) -> np.ndarray:
        filled = np.concatenate([inputs, np.zeros((batch_size - len(inputs), *inputs.shape[1:]), inputs.dtype)])
        return np.asarray(forward(variables, filled))[: len(inputs)]

    return Encoder(
        f"{what} of step {model.step} of {model.workdir}",
        embed,
        None if clouds else config.data.image_size,
        1.0 if clouds else config.evaluate.center_fraction,
        {"what": what, "steps": model.step, "params_sha256": model.info.get("params_sha256")},
    )


def of_function(named: str, image_size: int | None = None) -> Encoder:
    """A Python function, `package.module:function`; the current folder is searched first.

    Args:
      named: its module and its name.
      image_size: side of the images that it gets, pixels; None for its attribute `image_size`, and 224 without one.

    Returns:
      The encoder, whose first batch is embedded three times: rows must depend on their image alone.

    Raises:
      UsageError: there is no such function, its module can't be imported, or its `image_size` is no whole number.
    """
    name, colon, attribute = named.partition(":")
    if not (name and colon and attribute):
        raise UsageError(f"--function={named}: give package.module:function")
    module = _module(name, named)
    function = getattr(module, attribute, None)
    if not callable(function):
        there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        close = difflib.get_close_matches(attribute, there, n=1)
        meant = f"; did you mean {close[0]}?" if close else f"; it has {', '.join(there[:8]) or 'none'}"
        said = "is no function" if hasattr(module, attribute) else "is not in it"
        raise UsageError(f"--function={named}: {attribute} {said} ({module.__file__}){meant}")
    own = getattr(function, "image_size", None)
    size = next(given for given in (image_size, own, IMAGE_SIZE) if given is not None)
    if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or size < 1:
        raise UsageError(
            f"--function={named}: its attribute image_size is {printable(repr(size))}; make it a whole number, the "
            "side of the square images that it gets, or give --image_size"
        )
    if image_size is None:
        taken = "the default; --image_size chooses" if own is None else "its attribute image_size"
        say(f"--function={named} gets images of {size} x {size} pixels ({taken}), floats in [0, 1]")
    file = getattr(module, "__file__", None)
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None
    return Encoder(named, _steady(named, _checked(named, function)), int(size), 1.0, {"module_sha256": digest})


def _module(name: str, named: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(
                f"--function={named}: there is no module {name}, neither in this folder nor installed"
            ) from error
        raise UsageError(f"--function={named}: {name} can't be imported: {error}") from error
    except Exception as error:  # the module is code, and can raise anything
        raise UsageError(f"--function={named}: {name} can't be imported: {_raised(error)}") from error


def _checked(named: str, function: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], np.ndarray]:
    """The function, whose mistakes are one line each."""
    widths: set[int] = set()

    def embed(images: np.ndarray) -> np.ndarray:
        try:
            found = function(images)
            if hasattr(found, "detach"):  # a torch tensor, which may lie on a GPU
                found = found.detach().cpu()
                # NumPy has no bfloat16, and torch does not lend it JAX's.
                found = found.float() if found.is_floating_point() else found
            array = np.asarray(found)
        except Exception as error:  # the function is code, and can raise anything
            raise DataError(f"--function={named}: it raised {_raised(error)}") from error
        if array.ndim != 2 or not is_number(array.dtype) or len(array) != len(images) or not array.shape[1]:
            raise DataError(
                f"--function={named}: of {len(images)} images it gives {array.dtype}{list(array.shape)}; give numbers "
                f"[{len(images)}, d], a row an image"
            )
        if not np.isfinite(array).all():
            rows = ~np.isfinite(array).all(axis=1)
            raise DataError(f"--function={named}: {rows.sum()} of {len(array)} rows that it gives are not finite")
        widths.add(array.shape[1])
        if len(widths) > 1:
            raise DataError(f"--function={named}: its rows have {' and '.join(map(str, sorted(widths)))} numbers")
        return array.astype(np.float32)

    return embed


def _steady(named: str, embed: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """The function, whose first batch tells whether it is a function of an image: dropout and batch norm may be on."""
    seen = False

    def embed_steadily(images: np.ndarray) -> np.ndarray:
        nonlocal seen
        if seen:
            return embed(images)
        again, half = images.copy(), len(images) // 2  # copies: the function may change what it is given
        # Of the same size, which the function may ask for; the others have other statistics.
        among_others = np.concatenate([images[:half], 1 - images[half:]])
        rows = embed(images)
        if not _same(rows, embed(again)):
            raise DataError(
                f"--function={named}: it gives the same images other rows when it is called again: is its network in "
                "evaluation mode, without dropout?"
            )
        if not half:
            say(f"--function={named}: a batch of one image does not tell whether a row depends on its image alone")
        elif not _same(rows[:half], embed(among_others)[:half]):
            raise DataError(
                f"--function={named}: it gives images other rows in a batch with others: is its network in evaluation "
                "mode, with batch norm's running averages?"
            )
        seen = True
        return rows

    return embed_steadily


def _same(rows: np.ndarray, others: np.ndarray) -> bool:
    """Whether rows [n, d] are the same but for rounding."""
    length, spread = (np.sqrt(np.mean(np.sum(x**2, axis=1))) for x in (rows, rows - rows.mean(axis=0)))
    furthest = np.max(np.linalg.norm(rows - others, axis=1))
    return bool(furthest <= _OF_SPREAD * spread + _OF_LENGTH * length)


def _raised(error: BaseException) -> str:
    """What was raised, and where in whose code: the last line that is no library's."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename and frame.filename != __file__]
    own = [frame for frame in own if not frame.filename.startswith("<frozen")]
    where = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {error}{where}"
