"""What is printed: a line for each augmentation at each strength."""

import math
from collections.abc import Mapping
from typing import Any

from care_jax.measure.numbers import SHARE, Numbers

_HEAD: tuple[str, ...] = (
    "augmentation",
    "strength",
    "rotation",
    "95 %",
    "centred",
    "orthogonal",
    "linear",
    "null",
    "displaced",
    "gamma",
)
_HEAD += ("its null", "MRR", "hit@1")


def rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The names of the columns, and a row for each augmentation at each strength."""
    lines: list[tuple[str, ...]] = [_HEAD]
    for name, one in found["augmentations"].items():
        for entry in one["strengths"]:
            strength = entry["strength"]
            lines.append((name, "–" if strength is None else f"{strength:g}", *_cells(entry)))
    return lines


def text(found: Mapping[str, Any]) -> str:
    """The rows, columns under their names: the share that each kind of map explains, and what stands beside it."""
    lines = rows(found)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    name = f"{{:{widths[0]}}}"
    others = [f"{{:>{width}}}" for width in widths[1:]]
    return "\n".join("  ".join([name, *others]).format(*line).rstrip() for line in lines)


def headline(found: Mapping[str, Any]) -> str:
    """The line under the table."""
    names = list(found["augmentations"])
    over = f", mean over {', '.join(names)}" if len(names) > 1 else ""
    return f"{SHARE}{over}: {interval(found[SHARE])}"


def interval(share: Numbers | None) -> str:
    """A number with its interval and what it is over, in words."""
    if share is None:
        return "nothing moves"
    return f"{number(share['mean'])}, 95 % {number(share['low'])} to {number(share['high'])}, n = {share['n']:,}"


def number(value: float | None, decimals: int = 3) -> str:
    """None is a dash: it could not be measured."""
    return "–" if value is None else f"{value:.{decimals}f}"


def mean(one: Numbers | None) -> str:
    """The mean of an estimate."""
    return number(None if one is None else one["mean"])


def _cells(entry: Numbers) -> tuple[str, ...]:
    share, follow = entry[SHARE], entry["follow_prediction"]
    between = "–" if share is None else f"{number(share['low'])} {number(share['high'])}"
    kinds = (mean(entry[f"{kind}_share_explained"]) for kind in ("centred", "orthogonal", "linear", "permuted"))
    gammas = (entry["relative_equivariance"][of]["0.5"] for of in ("quantiles", "permuted"))
    gamma = ("–" if value is None or math.isnan(value) else f"{value:.3g}" for value in gammas)  # rounding decides it
    hits = (mean(follow["mean_reciprocal_rank"]), mean(follow["hit_at_1"]))
    return mean(share), between, *kinds, f"{entry['displacement']:.3g}", *gamma, *hits
