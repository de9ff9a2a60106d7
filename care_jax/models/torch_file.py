"""Reading PyTorch's files without running code from them."""

import argparse
import os
from typing import Any


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
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"{os.fspath(path)!r} can't be loaded without running code from it: {reason}") from error
