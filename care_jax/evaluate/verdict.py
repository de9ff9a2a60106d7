"""What the numbers of a run say: a sentence, and the six that carry it."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from care_jax.evaluate.baseline import Baseline
from care_jax.evaluate.measure import Measure

SHARE = "rotation_share_explained"
SAME_IMAGES = "rotation_share_same_images"  # stands in for it in summaries that lack it
_MAX_CARDS = 6
_ALIKE = "not told apart"
_OTHERS = 3  # labellings beside the class that the sentence tells of
# Unit vectors that have nothing to do with each other lie sqrt(2) apart.
_MOVES_NOTHING = 0.05
_KEPT, _PARTLY, _LOST = 0.75, 0.4, 0.1  # of the way from chance to 100 %
_NONE: Mapping[str, float] = MappingProxyType({})
_EXPLAINED = "motion that one rotation explains"
_INFORMATION = ("_probe_top1", "_knn_top1", "hue_follow")  # what is known of the labels: more of it is better to have
_SAME_IMAGES_MEASURE = Measure(
    "1 - W^2 / D^2 of the means, the rotation fitted and judged on the same examples, which flatters it",
    better="higher",
    heading=f"{_EXPLAINED}, on the examples it was fitted to",
)


class Card(NamedTuple):
    """One of the numbers on top, in words.

    Attributes:
      heading: what it is.
      value: with its unit.
      spread: its interval or deviation; empty where there is none.
      direction: which way is better, or what it means; empty where neither is.
      chance: level of what knows nothing; empty where there is none.
      baseline: the other run's value, and whether this one is better; empty without one.
    """

    heading: str
    value: str
    spread: str = ""
    direction: str = ""
    chance: str = ""
    baseline: str = ""


def verdict(
    numbers: Mapping[str, Any],
    measures: Mapping[str, Measure],
    baseline: Baseline | None = None,
    chances: Mapping[str, float] = _NONE,
) -> str:
    """One sentence on the run, and one on how it compares.

    Args:
      numbers: of summary.json; what is absent or None is not told, or told as not known.
      measures: what they are.
      baseline: another run's numbers.
      chances: accuracy in percent -> that of guessing.
    """
    numbers, measures = _with_share(numbers, measures)
    parts = [_motion(numbers), _classes(numbers, chances)]
    labellings = _labellings(measures)
    parts += filter(None, (_labelling(numbers, name, chances) for name in labellings[:_OTHERS]))
    if len(labellings) > _OTHERS:
        parts.append(f"{len(labellings) - _OTHERS} more labellings are in the table")
    if (follow := _number(numbers, "hue_follow")) is not None:
        percent = follow if "%" in _of(measures, "hue_follow").unit else 100.0 * follow
        parts.append(f"after a change of hue {percent:.0f} % of the neighbours follow it")
    text = "; ".join(parts)
    sentence = f"{text[0].upper()}{text[1:]}."
    return f"{sentence} {told}" if baseline and (told := _against(numbers, measures, baseline)) else sentence


def cards(
    numbers: Mapping[str, Any],
    measures: Mapping[str, Measure],
    baseline: Baseline | None = None,
    chances: Mapping[str, float] = _NONE,
) -> list[Card]:
    """The six numbers that say most, or fewer; arguments as those of `verdict`."""
    numbers, measures = _with_share(numbers, measures)
    others, _ = _with_share(baseline.numbers if baseline else {}, {})
    found = []
    for name in _most_telling(measures):
        value = _number(numbers, name)
        if value is None:
            continue
        measure = _of(measures, name)
        told = ""
        other = _number(others, name)
        if baseline and other is not None:
            judged = _judged(name, numbers, others, measure)
            this_is = "" if judged in ("", _ALIKE) else "this is "
            told = ", ".join(filter(None, (f"{shown(name, other, measure)} in {baseline.name}", this_is + judged)))
        found.append(
            Card(
                _heading(name, measure),
                shown(name, value, measure),
                _spread(numbers, name, measure),
                _direction(name, measure),
                _chance(numbers, name, measure, chances),
                told,
            )
        )
    return found[:_MAX_CARDS]


def shown(name: str, value: Any, measure: Measure) -> str:
    """A number with its unit; shares in percent.

    >>> shown("knn_top1", 98.3286, Measure("", unit="%", decimals=1))
    '98.3 %'
    >>> shown("rotation_share_explained", 0.62, Measure(""))
    '62 %'
    """
    if value is None:
        return "–"
    if isinstance(value, float):
        if _is_share(name, measure):
            return f"{_percent(value)} %"
        number = f"{value:.{measure.decimals}f}" if abs(value) < 1e6 else f"{value:.4g}"
        return f"{number} {measure.unit}".strip()
    return f"{value:,} {measure.unit}".strip() if type(value) is int else str(value)


def _is_share(name: str, measure: Measure) -> bool:
    return not measure.unit and ("_share_" in name or name == "hue_follow")


def _percent(share: float) -> str:
    """Whole percents; tenths below one."""
    return f"{100.0 * share:.0f}" if abs(share) >= 0.01 or share == 0 else f"{100.0 * share:.1f}"


def _with_share(
    numbers: Mapping[str, Any], measures: Mapping[str, Measure]
) -> tuple[Mapping[str, Any], Mapping[str, Measure]]:
    """With the share explained on the same images, where the summary has no better one."""
    left, moved = _number(numbers, "wahba_mean"), _number(numbers, "displacement_mean")
    if _number(numbers, SHARE) is not None or left is None or not moved:
        return numbers, measures
    return {**numbers, SAME_IMAGES: 1.0 - (left / moved) ** 2}, {**measures, SAME_IMAGES: _SAME_IMAGES_MEASURE}


def _motion(numbers: Mapping[str, Any]) -> str:
    moved, share, fitted = (_number(numbers, name) for name in ("displacement_mean", SHARE, SAME_IMAGES))
    if moved is not None and moved < _MOVES_NOTHING:
        return (
            f"the augmentations hardly move the embeddings (by {moved:.2g}, unrelated ones are 1.41 apart), so there "
            "is nothing for a rotation to explain"
        )
    what = "of what an augmentation does to the embeddings"
    if share is not None:
        null = _number(numbers, "rotation_share_permuted")
        low, high = (_number(numbers, f"{SHARE}_{end}") for end in ("low", "high"))
        if (share if low is None else low) <= max(null or 0.0, 0.0):
            than = "nothing" if null is None else f"permuted pairs give ({_percent(null)} %)"
            return f"no rotation explains anything {what}: {_percent(share)} %, no more than {than}"
        interval = "" if low is None or high is None else f" ({_percent(low)} to {_percent(high)})"
        others = ((of, _number(numbers, f"{of}_{SHARE}")) for of in ("features", "head"))
        acts = "".join(f", and {_percent(x)} % on the {of}, where the term acts" for of, x in others if x is not None)
        return f"one rotation explains {'' if share >= 0.5 else 'only '}{_percent(share)} %{interval} {what}{acts}"
    if fitted is not None:
        only = "" if fitted >= 0.5 else "only "
        return f"one rotation, fitted and judged on the same examples, explains {only}{_percent(fitted)} % {what}"
    return "how an augmentation moves the embeddings is not known"


def _classes(numbers: Mapping[str, Any], chances: Mapping[str, float]) -> str:
    for name, by in (("knn_top1", "kNN"), ("linear_probe_top1", "a linear probe")):
        if (value := _number(numbers, name)) is not None:
            return _kept("classes are", value, by, chances.get(name))
    if (error := _number(numbers, "principal_component_error")) is not None:  # of clouds; chance is 1 radian
        known = _number(numbers, "radius_of_gyration_explained")
        size = "" if known is None else f", and explains {_percent(known)} % of their radius of gyration"
        return f"a regression tells the longest direction of turned clouds to {error:.0f} degrees (chance 57){size}"
    return "whether classes are kept is not known, there are no labels"


def _labellings(measures: Mapping[str, Measure]) -> list[str]:
    """Those beside the class."""
    names = [name.removesuffix("_probe_top1") for name in measures if name.endswith("_probe_top1")]
    return [name for name in names if name != "linear"]


def _labelling(numbers: Mapping[str, Any], labelling: str, chances: Mapping[str, float]) -> str:
    for name, by in ((f"{labelling}_probe_top1", "a linear probe"), (f"{labelling}_knn_top1", "kNN")):
        if (value := _number(numbers, name)) is not None:
            return _kept(f"the {labelling} is", value, by, chances.get(name))
    return ""


def _kept(what: str, value: float, by: str, chance: float | None) -> str:
    if chance is None:
        return f"{what} told by {by} of {value:.1f} %"
    share = (value - chance) / max(100.0 - chance, 1e-9)
    word = (
        "kept" if share >= _KEPT else "partly kept" if share >= _PARTLY else "mostly lost" if share > _LOST else "lost"
    )
    return f"{what} {word}, {value:.1f} % by {by} (chance {chance:.3g})"


def _against(numbers: Mapping[str, Any], measures: Mapping[str, Measure], baseline: Baseline) -> str:
    others, _ = _with_share(baseline.numbers, {})
    found: dict[str, list[str]] = {"better": [], "worse": [], _ALIKE: []}
    names = [SHARE, SAME_IMAGES, "knn_top1", "linear_probe_top1"]
    for name in [*names, *(f"{one}_probe_top1" for one in _labellings(measures)[:_OTHERS])]:
        ours, theirs, measure = _number(numbers, name), _number(others, name), _of(measures, name)
        if ours is not None and theirs is not None:
            pair = f"{shown(name, ours, measure)} against {shown(name, theirs, measure)}"
            judged = _judged(name, numbers, others, measure)
            heading = _EXPLAINED if name in (SHARE, SAME_IMAGES) else _heading(name, measure)
            found[judged].append(f"{heading} ({pair})")
    parts = [f"{word} in {_listed(of)}" for word, of in found.items() if of]
    return f"Against the baseline {baseline.name} it is {'; '.join(parts)}." if parts else ""


def _judged(name: str, numbers: Mapping[str, Any], others: Mapping[str, Any], measure: Measure) -> str:
    """Better, worse, or within what the two would differ by if drawn again; empty where neither is."""
    ours, theirs = numbers[name], others[name]
    if not measure.better and not name.endswith(_INFORMATION):
        return ""  # neither more nor less is better
    if abs(ours - theirs) <= math.hypot(_uncertainty(name, numbers, measure), _uncertainty(name, others, measure)):
        return _ALIKE
    return "better" if (ours > theirs) == (measure.better != "lower") else "worse"


def _uncertainty(name: str, numbers: Mapping[str, Any], measure: Measure) -> float:
    """Half the interval; else the deviation over seeds, or that of an accuracy over as many test images."""
    low, high = (_number(numbers, f"{name}_{end}") for end in ("low", "high"))
    if low is not None and high is not None:
        return (high - low) / 2.0
    found = [_number(numbers, f"{name}_spread") or 0.0]
    images = _number(numbers, "test_examples")
    if measure.unit == "%" and images:
        value = min(max(numbers[name], 0.0), 100.0)
        found.append(math.sqrt(value * (100.0 - value) / images))
    return max(found)


def _most_telling(measures: Mapping[str, Measure]) -> list[str]:
    probes = [f"{one}_probe_top1" for one in _labellings(measures)[:1]]
    return [
        *(SHARE, SAME_IMAGES, "knn_top1", "linear_probe_top1", *probes, "hue_follow"),
        *("principal_component_error", "radius_of_gyration_explained"),
        *("relative_equivariance_median", "follow_mean_reciprocal_rank", "displacement_mean"),
    ]


def _heading(name: str, measure: Measure) -> str:
    if name == SHARE:
        return _EXPLAINED
    return measure.heading or name.removesuffix("_top1").replace("_", " ")


def _direction(name: str, measure: Measure) -> str:
    if measure.better:
        return f"{measure.better} is better"
    return f"higher keeps more of the {name.removesuffix('_probe_top1')}" if name.endswith("_probe_top1") else ""


def _chance(numbers: Mapping[str, Any], name: str, measure: Measure, chances: Mapping[str, float]) -> str:
    if name in chances:
        return f"chance {chances[name]:.3g} {measure.unit}".strip()
    null = _number(numbers, "rotation_share_permuted")
    if name == SHARE and null is not None:
        return f"permuted pairs {_percent(null)} %"
    if name == "relative_equivariance_median":
        of_permuted = _number(numbers, "relative_equivariance_permuted")
        return "" if of_permuted is None else f"permuted pairs {shown(name, of_permuted, measure)}"
    return "chance 0 %" if name == SHARE else ""


def _spread(numbers: Mapping[str, Any], name: str, measure: Measure) -> str:
    low, high = (_number(numbers, f"{name}_{end}") for end in ("low", "high"))
    if low is not None and high is not None:
        return f"{shown(name, low, measure).removesuffix(' %')} to {shown(name, high, measure)}"
    spread = _number(numbers, f"{name}_spread")
    return "" if spread is None else f"± {spread:.{measure.decimals}f}"


def _of(measures: Mapping[str, Measure], name: str) -> Measure:
    return measures.get(name, _SAME_IMAGES_MEASURE if name == SAME_IMAGES else Measure(""))


def _number(numbers: Mapping[str, Any], name: str) -> float | None:
    value = numbers.get(name)
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    return None


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
