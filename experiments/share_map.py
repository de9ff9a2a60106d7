"""Where CARE makes a rotation: share explained over images a group, dimensions, weight and kind of augmentation.

    python -m experiments.share_map                          # configs/digits.py, 300 steps, one seed: 45 runs
    python -m experiments.share_map --kinds=color --dimensions=16,64,256 --weights=0,0.1 --workdir=runs/share_map_d

Every run trains and measures on the draws of its own kind. Each has its folder under --workdir and is not made again if
it is there with the same settings; with others it is refused. The table goes to standard output and to `table.md`, the
picture to `share_map.png`: panels of a kind, a curve a weight and dimension, over images a group divided by dimensions.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install()  # before what takes time
    extras.require_train()

import itertools
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import ml_collections
from absl import flags
from matplotlib.figure import Figure

from care_jax.command_line import UsageError
from care_jax.evaluate import plots
from care_jax.sweep.table import Results, Row, Table
from care_jax.sweep.tables import Picture
from experiments import command

SHARE, NULL, CLASSES = "rotation_share_explained", "rotation_share_permuted", "knn_top1"
COLUMNS = (
    SHARE,
    NULL,
    "linear_share_explained",
    "relative_equivariance_median",
    "relative_equivariance_permuted",
    "displacement_mean",
    CLASSES,
    "linear_probe_top1",
    "hue_probe_top1",
)
_BRANCH = "augment.equivariance."
_STILL: dict[str, Any] = {  # no motion at all; every kind adds its own
    "crop": "center",
    "flip_probability": 0.0,
    "jitter_probability": 0.0,
    "grayscale_probability": 0.0,
    "blur_probability": 0.0,
    "rotation_degrees": 0.0,
    "translation": 0.0,
}
_COLOR: dict[str, Any] = {"jitter_probability": 1.0, "hue": 0.5}
# What the equivariance branch draws: colours alone, a turn of the image, crops, colours that half of the draws take
# away, and colours, crops, blur and some gray at once, as the paper's augmentations are.
KINDS: dict[str, dict[str, Any]] = {
    "color": _COLOR,
    "turn": {"rotation_degrees": 90.0},
    "crop": {"crop": "random_resized"},
    "gray": _COLOR | {"grayscale_probability": 0.5},
    "all": _COLOR | {"crop": "random_resized", "blur_probability": 0.5, "grayscale_probability": 0.2},
}


def make_table(
    config: ml_collections.ConfigDict,
    *,
    kinds: Sequence[str],
    images: Sequence[int],
    weights: Sequence[float],
    dimensions: Sequence[int],
    num_steps: int,
) -> Table:
    """A row a kind, dimension, weight and number of images a group; weight 0 has no groups, and one row.

    Args:
      config: of all rows.
      kinds: of KINDS.
      images: in a group; divisors of the batch.
      weights: lambdas.
      dimensions: of the embedding.
      num_steps: updates a run.

    Raises:
      UsageError: nothing of one of them; no such kind, or one twice; a number of images that does not divide the batch.
    """
    batch = command.own_batch(config)
    command.check_some({"--kinds": kinds, "--images": images, "--weights": weights, "--dimensions": dimensions})
    command.check_once("--kinds", kinds)
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"--kinds={kind} is no kind; there are {', '.join(KINDS)}")
    for size in images:
        if size < 2 or batch % size:
            raise UsageError(f"--images={size}: give numbers from 2 on that divide the batch of {batch}")
    rows: dict[str, Row] = {}
    for kind in kinds:
        for size in dimensions:
            plain = f"{kind}_d{size}_lambda_0"
            for weight in weights:
                for number in images if weight else [0]:
                    name = f"{kind}_d{size}_lambda_{weight:g}" + (f"_images_{number}" if weight else "")
                    groups = {"equivariance.num_groups": batch // number} if weight else {}
                    labels = (kind, f"{size}", f"{number}" if weight else "–", f"{weight:g}")
                    settings = _settings(kind, size, weight, num_steps) | groups
                    rows[name] = Row(labels, settings, plain if weight and 0.0 in weights else "")
    return Table(("draws", "dimensions", "images a group", "lambda"), rows, COLUMNS, (SHARE,))


def _settings(kind: str, dimensions: int, weight: float, num_steps: int) -> dict[str, Any]:
    branch = _STILL | KINDS[kind]
    return {
        **{f"{_BRANCH}{name}": value for name, value in branch.items()},
        "model.head_size": dimensions,
        "equivariance.weight": weight,
        "train.num_steps": num_steps,
        "train.evaluate_every_epochs": 0.0,
        "evaluate.probe.num_seeds": 1,
    }


def picture(table: Table, results: Results) -> Figure:
    """A column of panels a kind: the share, with a small mark at its null value, and below it what classes are worth.

    A level line is the plain objective.
    """
    kinds = list(dict.fromkeys(row.labels[0] for row in table.rows.values()))
    figure, axes = plots.panels(2, len(kinds), width=max(2.5, 6.0 / len(kinds)), height=2.4, share_x="col")
    for column, kind in enumerate(kinds):
        curves: dict[tuple[str, str], list[tuple[float, ...]]] = {}
        for name, row in table.rows.items():
            _, dimensions, images, weight = row.labels
            if row.labels[0] == kind:
                ratio = float(images) / float(dimensions) if images != "–" else 0.0
                measured = (_mean(results[name], measure) for measure in (SHARE, NULL, CLASSES))
                curves.setdefault((dimensions, weight), []).append((ratio, *measured))
        looks = zip(itertools.cycle(plots.PALETTE), itertools.cycle(plots.MARKERS), strict=True)
        for ((dimensions, weight), points), (colour, marker) in zip(curves.items(), looks, strict=False):
            ratios, shares, nulls, classes = zip(*sorted(points), strict=True)
            label = "" if column else f"d = {dimensions}, lambda {weight}"
            for line, heights in enumerate((shares, classes)):
                if weight == "0":
                    axes[line][column].axhline(heights[0], color=colour, linestyle="--", linewidth=1.2, label=label)
                else:
                    axes[line][column].plot(ratios, heights, color=colour, marker=marker, markersize=4, label=label)
                label = ""
            if weight != "0":
                axes[0][column].plot(ratios, nulls, color=colour, marker="_", linestyle="none")
        axes[0][column].set_title(kind)
        for axis in (axes[0][column], axes[1][column]):
            axis.set_xscale("log", base=2)
            axis.xaxis.set_major_formatter(lambda ratio, place: str(Fraction(ratio).limit_denominator(64)))
        axes[1][column].set_xlabel("images a group / d")
    axes[0][0].set_ylabel("share explained")
    axes[1][0].set_ylabel("kNN, %")
    figure.legend(loc="outside lower center", ncols=3 if len(kinds) < 3 else 6, frameon=False)
    return figure


def _mean(summaries: Sequence[Mapping[str, Any]], measure: str) -> float:
    """NaN where one of the seeds lacks it, as the table has a dash."""
    values = [summary[measure] for summary in summaries if summary.get(measure) is not None]
    return sum(values) / len(values) if len(values) == len(summaries) else float("nan")


if __name__ == "__main__":
    flags.DEFINE_list("kinds", list(KINDS), "What the equivariance branch draws.")
    flags.DEFINE_list("images", ["4", "16", "64", "128"], "Images a group.")
    flags.DEFINE_string("weights", "0,0.1,0.3", "lambdas, by commas.")
    flags.DEFINE_list("dimensions", ["64"], "Of the embedding.")
    flags.DEFINE_integer("steps", 300, "Updates a run: about 50 s on two CPU cores.", lower_bound=1)
    FLAGS = flags.FLAGS

    def _make(config: ml_collections.ConfigDict) -> Table:
        return make_table(
            config,
            kinds=FLAGS.kinds,
            images=command.whole_numbers("--images", FLAGS.images),
            weights=command.numbers("--weights", FLAGS.weights),
            dimensions=command.whole_numbers("--dimensions", FLAGS.dimensions),
            num_steps=FLAGS.steps,
        )

    command.start(_make, workdir="runs/share_map", seeds=1, picture=Picture("share_map.png", picture))
