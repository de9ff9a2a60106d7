"""What is measured: the networks that timm and torchvision name, with weights from a file or random ones."""

import difflib
import hashlib
import importlib
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from care_jax.command_line import UsageError, say
from care_jax.measure.encoders import Encoder
from care_jax.models.state_dicts import listed
from care_jax.models.torch_file import read_torch_file

EXTRA = "pip install 'care_jax[encoders]'"
# Where torchvision's networks keep what makes classes of features.
_HEADS = ("fc", "classifier", "heads", "head")
_WRAPPERS = ("state_dict", "model", "model_state_dict", "module")


class _Network(NamedTuple):
    """A network without its classifier, and what its library says of its images.

    Attributes:
      module: the torch module.
      size: [height, width] of its images.
      mean, std: of each channel.
      center_fraction: of the image that it is shown.
      head: name of the module that was left out.
    """

    module: Any
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    center_fraction: float
    head: str


def of_model(named: str, *, weights: Path | None = None, seed: int = 0) -> Encoder:
    """A network by name, in evaluation mode, on a GPU where torch has one: the features before its classifier.

    Args:
      named: "timm:NAME" or "torchvision:NAME".
      weights: a state dict, .pth or .safetensors; None for random weights.
      seed: of these.

    Raises:
      UsageError: a library is missing, it has no such network, or the file does not fit it.
    """
    library, _, name = named.partition(":")
    makers: dict[str, Callable[[str, str], _Network]] = {"timm": _timm, "torchvision": _torchvision}
    if library not in makers or not name:
        raise UsageError(f"--model={named}: give timm:NAME or torchvision:NAME, timm:vit_tiny_patch16_224 for instance")
    torch = _import("torch", named)
    torch.manual_seed(seed)
    network = makers[library](named, name)
    height, width = network.size
    if height != width:
        raise UsageError(f"--model={named}: its images are {height} x {width}; only square ones are measured")
    if weights is None:
        say(f"--model={named}: random weights, seed {seed}; --weights=FILE gives it others")
    else:
        _load(network, weights, named)
    say(
        f"--model={named}: images of {width} x {width} pixels, the central {network.center_fraction:.3g} of the "
        f"shorter side, resized bilinearly, normalised by mean {_numbers(network.mean)} and standard deviation "
        f"{_numbers(network.std)}, as {library} has it; features before its classifier ({network.head})"
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = network.module.eval().to(device)
    mean, std = (np.asarray(values, np.float32) for values in (network.mean, network.std))

    def embed(images: np.ndarray) -> np.ndarray:
        normalised = np.ascontiguousarray(((images - mean) / std).transpose(0, 3, 1, 2))
        with torch.inference_mode():
            found = module(torch.from_numpy(normalised).to(device)).flatten(1).float().cpu().numpy()
        return np.asarray(found)

    about = {
        "weights": None if weights is None else str(weights),
        "params_sha256": _digest(module),
        "mean": network.mean,
        "std": network.std,
        "versions": {part: getattr(sys.modules[part], "__version__", "?") for part in ("torch", library)},
    }
    return Encoder(named, embed, width, network.center_fraction, about)


def _timm(named: str, name: str) -> _Network:
    timm = _import("timm", named)
    if not timm.is_model(name.partition(".")[0]):
        raise UsageError(_unknown(named, "timm", name, timm.list_models()))
    try:
        module = timm.create_model(name, pretrained=False)
    except RuntimeError as error:  # of a tag that it does not know, resnet18.bogus
        architecture = name.partition(".")[0]
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"--model={named}: {reason.rstrip('.')}; {architecture} has {listed(tags)}") from error
    head = module.pretrained_cfg.get("classifier", "")
    config = timm.data.resolve_model_data_config(module)
    module.reset_classifier(0)
    _, height, width = config["input_size"]
    head = head if isinstance(head, str) else ", ".join(head)
    return _Network(module, (height, width), config["mean"], config["std"], config["crop_pct"], head)


def _torchvision(named: str, name: str) -> _Network:
    models = _import("torchvision", named).models
    names = models.list_models(module=models)
    if name not in names:
        raise UsageError(_unknown(named, "torchvision", name, names))
    transform = models.get_model_weights(name).DEFAULT.transforms()
    module = models.get_model(name, weights=None)
    head = next((part for part in _HEADS if hasattr(module, part)), None)
    if head is None:
        raise UsageError(f"--model={named}: it has none of {', '.join(_HEADS)}, so its features can't be told")
    setattr(module, head, _import("torch", named).nn.Identity())
    (side,), (shorter,) = transform.crop_size, transform.resize_size
    return _Network(module, (side, side), tuple(transform.mean), tuple(transform.std), side / shorter, head)


def _unknown(named: str, library: str, name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=3)
    meant = f"did you mean {', '.join(close)}?" if close else f"it has {len(names)}, {names[0]} for instance"
    return f"--model={named}: {library} has no such network; {meant}"


def _import(library: str, named: str) -> ModuleType:
    """A library, loaded when it is asked for; torchvision's operators, which no network here uses, may be missing."""
    try:
        try:
            return importlib.import_module(library)
        except RuntimeError as error:  # a torchvision that is built for CUDA, beside a torch that is not
            if "torchvision::" not in str(error):
                raise
            _declare_operators()
            return importlib.import_module(library)
    except ModuleNotFoundError as error:
        raise UsageError(f"--model={named} needs {error.name}: {EXTRA}") from error
    except Exception as error:  # libraries that don't fit each other raise many kinds
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"--model={named}: {library} can't be imported: {type(error).__name__}: {reason}") from error


def _declare_operators() -> None:
    torch = importlib.import_module("torch")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("torchvision", "timm")]:
        del sys.modules[name]  # half loaded
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(library)  # or they are undefined again


_kept: list[Any] = []


def _load(network: _Network, file: Path, named: str) -> None:
    """Puts a file's weights into the network.

    Raises:
      UsageError: it can't be read, or lacks some.
    """
    torch = _import("torch", named)
    where = f"--weights={file}"
    try:
        if file.suffix == ".safetensors":
            loaded: Any = _import("safetensors.torch", named).load_file(os.fspath(file))
        else:
            loaded = read_torch_file(file)
    except OSError as error:
        raise UsageError(f"{where} can't be read: {error.strerror or error}") from error
    except UsageError:
        raise
    except Exception as error:  # of each library its own kinds
        raise UsageError(f"{where} is no state dict: {str(error).partition(chr(10))[0]}") from error
    while isinstance(loaded, Mapping) and (inner := next((key for key in _WRAPPERS if key in loaded), None)):
        loaded = loaded[inner]
    if not isinstance(loaded, Mapping) or not any(torch.is_tensor(value) for value in loaded.values()):
        raise UsageError(f"{where} is no state dict, names to tensors")
    given = {str(name).removeprefix("module."): value for name, value in loaded.items() if torch.is_tensor(value)}
    try:
        missing, unused = network.module.load_state_dict(given, strict=False)
    except RuntimeError as error:  # other shapes
        lines = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
        raise UsageError(f"{where} does not fit {named}: {'; '.join(lines[:2]) or error}") from error
    if missing:
        raise UsageError(f"{where} does not fit {named}: it lacks {listed(missing)}; it has {listed(given)}")
    say(f"{where}: {len(given) - len(unused)} entries loaded" + (f", not used: {listed(unused)}" if unused else ""))
    if getattr(network.module, "transform_input", None) is False:  # no entry tells; torchvision's own come with it
        network.module.transform_input = True
        say(f"--model={named}: its transform_input is on, as torchvision has it with its weights")


def _digest(module: Any) -> str:
    """SHA-256 over names and bytes of the weights and the statistics."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in values if math.isfinite(value)) + ")"
