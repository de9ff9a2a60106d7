"""Reading PyTorch's files without running code from them."""

import argparse
import os
import re
from typing import Any

from care_jax.errors import printable

_REMEDY = (
    'torch.save(torch.load({file!r}, weights_only=False)["state_dict"], "weights.pth"), with the key of its state dict'
)


def read_torch_file(path: str | os.PathLike[str]) -> Any:
    """What `torch.save` wrote: tensors, on the CPU, in plain containers.

    torch's restricted unpickler reads it, and anything but tensors, plain containers and `argparse.Namespace` (which
    checkpoints carry their command line in) is refused.

    Args:
      path: of the file.

    Raises:
      ImportError: if torch isn't installed.
      OSError: if the file can't be read.
      ValueError: if it isn't such a file.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError("reading a torch checkpoint needs torch: pip install 'care_jax[torch]'") from error

    try:
        # A Namespace is filled attribute by attribute and has no hooks, so allowing it executes nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch raises many kinds, by format and version
        name = os.fspath(path)
        raise ValueError(f"{name!r} can't be loaded without running code from it: {_reason(error, name)}") from error


def _reason(error: Exception, file: str) -> str:
    """What torch says, without its advice to run the code; what to do, where it is the code that was refused."""
    said = str(error).strip()
    if refused := re.search(r"Unsupported global: GLOBAL (\S+)", said):
        held = f"it holds {printable(refused[1])} beside tensors"
        return f"{held}; only if you trust it, save its weights alone: {_REMEDY.format(file=file)}"
    inner = said.partition("WeightsUnpickler error:")[2].strip() or said or type(error).__name__
    return printable(inner.split("\n")[0].partition(". ")[0])
