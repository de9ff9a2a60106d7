"""Finding a ResNet in a torch state dict: wrappers around it, prefixes of its names, and values that are no arrays.

Nothing here imports torch: state dicts may hold numpy arrays.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from care_jax.errors import printable

# An entry of the first block, whatever stands before it; numbers where a Sequential holds torchvision's children.
_FIRST_BLOCK = re.compile(r"((?:.*\.)?)(layer1|3|4)\.0\.(?:conv|bn)\d\.\w+")
# Averages of what trains beside them (MoCo, solo-learn, lightly); who asks for the backbone asks for the other.
_AVERAGES = ("encoder_k.", "momentum_encoder.", "momentum_backbone.", "backbone_momentum.")


# Where an exported file has the projection head: before its names, or as the key of a mapping of them.
PROJECTION_HEAD = "projection_head"


class Part(NamedTuple):
    """Entries of a mapping that share a prefix.

    Attributes:
      where: the wrappers and the prefix, with a space before each, for the end of a message.
      prefix: of their names; may be empty.
      entries: name without the prefix -> value.
      others: names of the mapping that do not begin with the prefix.
    """

    where: str
    prefix: str
    entries: dict[str, Any]
    others: tuple[str, ...] = ()


def find_backbone(state_dict: Any) -> Part:
    """The one ResNet in a state dict, with torchvision's names; the whole state dict where there is none.

    Wrappers ({"state_dict": ...}, {"model": ...}) and prefixes (`module.`, `_orig_mod.`, `backbone.`, stacked) are
    looked through, whatever their names, and so is a Sequential of torchvision's children (`backbone.0.weight`).

    Raises:
      ValueError: it is no mapping, its names are no strings, or it holds several backbones.
    """
    found = []
    for where, mapping in _mappings(state_dict):
        matches = [match for name in mapping if isinstance(name, str) and (match := _FIRST_BLOCK.fullmatch(name))]
        firsts: dict[str, str] = {}  # of a Sequential, 4 may be the second stage after 3
        for prefix, first in (match.groups() for match in matches):
            firsts[prefix] = min(first, firsts.get(prefix, first))
        for prefix, first in firsts.items():
            if first == "layer1" or f"{prefix}0.weight" in mapping:
                part = part_of(mapping, where, prefix)
                names = {} if first == "layer1" else children(int(first))
                found.append(part._replace(entries={_renamed(name, names): x for name, x in part.entries.items()}))
    return _only(_trained(found), "backbones") or _largest(state_dict)


def find_parts(state_dict: Any, pattern: str, *, trained: bool = False) -> Part | None:
    """The one part that has an entry of this pattern after its prefix; None where there is none.

    Args:
      state_dict: may be wrapped.
      pattern: a regular expression.
      trained: leave out what is the average of what trains beside it.

    Raises:
      ValueError: it is no mapping, its names are no strings, or there are several.
    """
    found = []
    for where, mapping in _mappings(state_dict):
        names = [name for name in mapping if isinstance(name, str)]
        matches = [match for name in names if (match := re.fullmatch(rf"((?:.*\.)?){pattern}", name))]
        found += [part_of(mapping, where, prefix) for prefix in dict.fromkeys(match[1] for match in matches)]
    return _only(_trained(found) if trained else found, "encoders")


def children(first_stage: int) -> dict[str, str]:
    """Names of a Sequential of a torchvision ResNet's children: conv1, bn1, ReLU, max-pool or none, and the stages."""
    return {"0": "conv1", "1": "bn1"} | {str(first_stage + i): f"layer{i + 1}" for i in range(4)}


def part_of(mapping: Mapping[Any, Any], where: str, prefix: str) -> Part:
    """The entries whose names begin with the prefix.

    Raises:
      ValueError: a name is no string.
    """
    for name in mapping:
        if not isinstance(name, str):
            raise ValueError(f"names of a state dict must be strings; got {name!r}{where}")
    entries = {name.removeprefix(prefix): value for name, value in mapping.items() if name.startswith(prefix)}
    others = tuple(name for name in mapping if not name.startswith(prefix))
    return Part(where + (f" under the prefix {prefix!r}" if prefix else ""), prefix, entries, others)


def to_array(name: str, value: Any) -> np.ndarray:
    """A weight as a float32 array.

    Raises:
      ValueError: it is no dense array of real numbers, or empty.
    """
    try:
        if hasattr(value, "detach"):  # a torch tensor; numpy has no bfloat16, so the cast comes first
            if value.is_complex():
                raise ValueError("complex numbers")
            value = value.detach().cpu().float().numpy()
        if not hasattr(value, "dtype"):
            raise ValueError("not an array")
        array = np.asarray(value)
        if not any(jnp.issubdtype(array.dtype, kind) for kind in (np.floating, np.integer, np.bool_)):
            raise ValueError(f"an array of {array.dtype}")
        array = array.astype(np.float32)
        if not array.size:
            raise ValueError(f"no values, shape {array.shape}")
    except Exception as error:  # torch raises many kinds: for sparse, quantized, meta tensors
        reason = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise ValueError(f"{printable(name)} ({type(value).__name__}) can't be read as an array: {reason}") from error
    return array


def listed(names: Iterable[Any], limit: int = 6) -> str:
    """The first few names."""
    names = sorted(printable(str(name)) for name in names)
    if len(names) > limit:
        names = [*names[:limit], f"... ({len(names)} in all)"]
    return ", ".join(names) or "nothing"


def _largest(state_dict: Any) -> Part:
    """The mapping that has most values, for a message about it."""
    where, mapping = max(_mappings(state_dict), key=lambda found: len(found[1]) - len(_inner(found[1])))
    return part_of(mapping, where, "")


def _mappings(checkpoint: Any) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """A mapping and those inside it, each with how to get there."""
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"a state dict (names to arrays) is needed; got {type(checkpoint).__name__}")
    seen: set[int] = set()
    waiting: list[tuple[str, Mapping[Any, Any]]] = [("", checkpoint)]
    while waiting:
        where, mapping = waiting.pop(0)
        if id(mapping) in seen:
            continue
        seen.add(id(mapping))
        yield where, mapping
        waiting += [
            (f"{where or ' in '}[{key!r}]", value) for key, value in mapping.items() if isinstance(value, Mapping)
        ]


def _inner(mapping: Mapping[Any, Any]) -> dict[Any, Mapping[Any, Any]]:
    return {key: value for key, value in mapping.items() if isinstance(value, Mapping)}


def _only(found: list[Part], what: str) -> Part | None:
    if len(found) > 1:
        one, other = (part.where.strip() or "without a prefix" for part in found[:2])
        more = f"; {len(found) - 2} more" if len(found) > 2 else ""
        raise ValueError(
            f"the state dict holds {len(found)} {what}: {one}; {other}{more}. Pass the"
            f" entries of one of them, its prefix stripped: {{name.removeprefix(prefix): value for name, value in"
            f" state_dict.items() if name.startswith(prefix)}}"
        )
    return found[0] if found else None


def _trained(found: list[Part]) -> list[Part]:
    """Without averages, unless there is nothing else."""
    return [part for part in found if not part.prefix.endswith(_AVERAGES)] or found


def _renamed(name: str, names: Mapping[str, str]) -> str:
    first, *rest = name.split(".", 1)
    return ".".join([names.get(first, first), *rest])
