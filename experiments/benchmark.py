"""All methods, each tuned with as many tries (the paper's table 1, and a reviewer's question): which is best at what?

    python -m experiments.benchmark                                  # configs/digits.py, 3 tries and 3 seeds each
    python -m experiments.benchmark --only=simclr,simclr_care --config=configs/fashion.py --workdir=runs/fashion

SimCLR, MoCo, BYOL, Barlow Twins and VICReg, each alone and with CARE; EquiMod, E-SSL and AugSelf on SimCLR; SIE. Every
method tries three values of one setting, the base methods of their learning rate, the others of their term's weight, at
the rate that their base took (SIE, which has no base, at the configuration's), with a training seed of its own that is
none of the table's. Taken is the one with the highest mean of `--chosen_by`, by default the probe of the class alone,
as in table 1: where the hue counts too, SimCLR is best where it has learned least. Then come the seeds of the table.
The tries go to `tuning/`, with a table.md of their own; the table, the ranks that its seeds leave open and which
differences are within the noise go to standard output and `table.md`, the intervals to `benchmark.png`. Each run has
its folder, and is not made again. All are judged on the test images, the tries too: there are too few to hold more out.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install()  # before what takes time
    extras.require_train()

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
from absl import flags

from care_jax.command_line import UsageError, given_settings, say
from care_jax.data import CLASS, DataSet
from care_jax.evaluate import evaluators
from care_jax.evaluate.evaluators import find
from care_jax.experiment import build
from care_jax.storage import local_path
from care_jax.sweep.runs import summary_of
from care_jax.sweep.table import Row, Table
from care_jax.sweep.tables import Picture, run_table
from experiments import command, own_settings, ranking

COLUMNS = (
    "knn_top1",
    "linear_probe_top1",
    "finetune_10_percent_top1",
    "hue_probe_top1",
    "rotation_share_explained",
    "relative_equivariance_median",
    "parameters_explained_linear",
    "follow_mean_reciprocal_rank",
    "displacement_mean",
    "seconds",
)
# What is ranked, and which way. Of hues and drawn parameters no measure says that more is better: an invariant encoder
# has none of them on purpose. Here they are what an encoder keeps of an image.
RANKED = {name: "lower" if name == "relative_equivariance_median" else "higher" for name in COLUMNS[:-2]}
CHOSEN_BY = ("linear_probe_top1",)
TUNING_SEED = 1000
_FACTORS = (1 / 3, 1.0, 3.0)
_RATE = "optimizer.learning_rate"


class Method(NamedTuple):
    """What is compared.

    Attributes:
      base: `loss.method`.
      term: in words; a dash for the base alone.
      settings: dotted name -> value.
      tuned: the setting that is tried.
      values: of it.
    """

    base: str
    term: str
    settings: Mapping[str, Any]
    tuned: str
    values: tuple[float, ...]


# Of SIE all of the loss is the term, and what weighs the equivariant half is a setting of its own.
_TUNED = {"sie": ("equivariance.sie_equivariance_weight", 4.5)}


def methods(config: ml_collections.ConfigDict, images: int, given: Collection[str] = ()) -> dict[str, Method]:
    """Name -> method, with settings of its own (`experiments/own_settings.py`) where the configuration has none.

    Args:
      config: of all; its learning rate and lambda are the middle ones of SimCLR's.
      images: that are trained on.
      given: the settings that the command line gave.

    Raises:
      UsageError: a lambda of 0.
    """
    found = {}
    rate, own_weight = config.optimizer.learning_rate, command.own_weight(config)
    for base, scale in own_settings.CARE_SCALE.items():
        settings = {"loss.method": base, **own_settings.of_base(base, config, images, given)}
        rates = tuple(factor * rate for factor in _FACTORS)
        found[base] = Method(base, "–", settings | {"equivariance.weight": 0.0}, _RATE, rates)
        weights = tuple(factor * scale * own_weight for factor in _FACTORS)
        found[f"{base}_care"] = Method(base, "care", settings, "equivariance.weight", weights)
    for rival, (base, weight) in own_settings.RIVALS.items():
        settings = {"loss.method": base, "equivariance.term": rival, "equivariance.weight": weight}
        settings |= own_settings.of_rival(rival, config)
        tuned, middle = _TUNED.get(rival, ("equivariance.weight", weight))
        values = tuple(factor * middle for factor in _FACTORS)
        found[rival if base == "none" else f"{base}_{rival}"] = Method(base, rival, settings, tuned, values)
    return found


def chosen(names: Mapping[str, Method], only: Sequence[str]) -> dict[str, Method]:
    """Those of `only`; all where it is empty.

    Raises:
      UsageError: no such method.
    """
    unknown = [name for name in only if name not in names]
    if unknown:
        raise UsageError(f"--only={unknown[0]} is no method; there are {', '.join(names)}")
    return {name: method for name, method in names.items() if not only or name in only}


def deciding(measures: Sequence[str], dataset: DataSet) -> tuple[str, ...]:
    """The measures whose mean decides; where none are given, the probe of the class.

    Raises:
      UsageError: one that is not measured on this data, or of which less is better.
    """
    known = evaluators.measures(dataset.num_classes)
    for name in measures:
        if name not in known or known[name].better == "lower":
            raise UsageError(
                f"--chosen_by={name} is no measure on {dataset.name} of which more may be better; docs/measures.md"
            )
    if len(units := {known[name].unit for name in measures}) > 1:
        of = ", ".join(sorted(unit or "none" for unit in units))
        raise UsageError(
            f"--chosen_by={','.join(measures)} are of unlike units ({of}), so their mean says nothing: give one"
        )
    found = tuple(measures) or CHOSEN_BY
    if not measures and CLASS not in dataset.num_classes:
        raise UsageError(f"{dataset.name} has no labels: say what decides, --chosen_by=rotation_share_explained")
    return found


def at_rates(compared: Mapping[str, Method], rates: Mapping[str, float]) -> dict[str, Method]:
    """Each term at the learning rate that its base took: a base that asks for another rate does so with a term too.

    Args:
      compared: the methods.
      rates: base -> what was taken; of a base that is not compared nothing is known, and its terms stay as they are.
    """
    changed = {}
    for name, method in compared.items():
        rate = rates.get(method.base)
        if method.tuned == _RATE or rate is None:
            changed[name] = method
        else:
            changed[name] = method._replace(settings={**method.settings, _RATE: rate})
    return changed


def tries(compared: Mapping[str, Method], measures: Sequence[str]) -> Table:
    """A row a value that is tried, all with the seed of the tuning; judged at the end only, so without monitors."""
    rows = {}
    for name, method in compared.items():
        for place, value in enumerate(method.values):
            settings = {**method.settings, method.tuned: value, "seed": TUNING_SEED, "evaluate.monitor": ()}
            rows[f"{name}_try_{place}"] = Row((method.base, method.term, method.tuned, f"{value:.3g}"), settings)
    return Table(("base", "term", "tried", "value"), rows, tuple(dict.fromkeys((*measures, *COLUMNS[:2]))), ())


def best(values: Sequence[float], scores: Sequence[float]) -> float:
    """The value of the highest score, the first of equals; a score of NaN is none.

    Raises:
      UsageError: all are NaN.
    """
    known = [(score, -place) for place, score in enumerate(scores) if not math.isnan(score)]
    if not known:
        raise UsageError("none of the tries has all measures of --chosen_by: give others, knn_top1 for instance")
    return values[-max(known)[1]]


def make_table(
    compared: Mapping[str, Method], values: Mapping[str, float], fine_tuning: Mapping[str, Any] | None
) -> Table:
    """A row a method, with the value that was chosen for it.

    Args:
      compared: the methods.
      values: method -> the value of the setting that was tried.
      fine_tuning: its settings, for every run; None for none.
    """
    rows = {}
    for name, method in compared.items():
        settings = {**method.settings, method.tuned: values[name], **(fine_tuning or {})}
        at = f" at rate {method.settings[_RATE]:.3g}" if _RATE in method.settings else ""
        labels = (method.base, method.term, f"{method.tuned.rpartition('.')[2]} {values[name]:.3g}{at}")
        rows[name] = Row(labels, settings, method.base if method.base in compared and name != method.base else "")
    columns = tuple(name for name in COLUMNS if fine_tuning or not name.startswith("finetune"))
    return Table(("base", "term", "chosen"), rows, columns, ("linear_probe_top1", "rotation_share_explained"))


def tuned(
    compared: Mapping[str, Method],
    config: ml_collections.ConfigDict,
    workdir: Path,
    *,
    by: Sequence[str],
    jobs: int,
    reuse: Sequence[Path] = (),
) -> dict[str, float]:
    """Makes the tries that are missing, of the bases first; method -> the value that is taken.

    Args:
      compared: the methods.
      config: of all of them.
      workdir: of the tries.
      by: measures; their mean decides.
      jobs, reuse: as of `run_table`.

    Raises:
      UserError: as of `run_table`.
    """
    bases = {name: method for name, method in compared.items() if method.tuned == _RATE}
    if bases and bases.keys() < compared.keys():
        table = tries(bases, by)
        if not all((workdir / f"{row}_seed_0" / "summary.json").exists() for row in table.rows):
            run_table(table, config, workdir, seeds=1, jobs=jobs, reuse=reuse)
        compared = at_rates(compared, _taken(bases, workdir, by, tell=lambda _: None))
    for name, method in compared.items():
        if method.base not in bases:
            why = "it has no base" if method.base == "none" else f"{method.base} is not among the methods"
            say(f"{name}: {why}, so the configuration's {_RATE} is taken")
    print(run_table(tries(compared, by), config, workdir, seeds=1, jobs=jobs, reuse=reuse), flush=True)
    return _taken(compared, workdir, by, tell=say)


def _taken(
    compared: Mapping[str, Method], workdir: Path, by: Sequence[str], tell: Callable[[str], None]
) -> dict[str, float]:
    found = {}
    for name, method in compared.items():
        folders = [workdir / f"{name}_try_{place}_seed_0" for place in range(len(method.values))]
        scores = [ranking.score(summary_of(folder), by) for folder in folders]
        found[name] = best(method.values, scores)
        decimals = max(find(name_of).decimals for name_of in by)
        tried = ", ".join(
            f"{value:.3g}: {score:.{decimals}f}" for value, score in zip(method.values, scores, strict=True)
        )
        # At an end of what was tried the best value may lie beyond it.
        end = {min(method.values): ", the smallest tried,", max(method.values): ", the largest tried,"}
        taken = f"{method.tuned} {found[name]:.3g}{end.get(found[name], '')}"
        tell(f"{name}: {taken} by {' and '.join(by)} of {tried}")
    return found


if __name__ == "__main__":
    flags.DEFINE_list(
        "chosen_by", [], "Measures whose mean decides which value is taken; nothing: the probe of the class."
    )
    flags.DEFINE_bool("fine_tuning", True, "Fine-tune every run on a tenth of the labels.")
    FLAGS = flags.FLAGS
    said: list[str] = []  # below the table

    def _make_table(config: ml_collections.ConfigDict) -> Table:
        dataset, given = build.load_data(config), given_settings()
        images = len(dataset.pretrain)
        compared = chosen(methods(config, images, given), FLAGS.only)
        by = deciding(FLAGS.chosen_by, dataset)
        fine_tuning = own_settings.fine_tuning(config, len(dataset.train), given) if FLAGS.fine_tuning else None
        middle = {name: method.values[1] for name, method in compared.items()}
        command.check_given(make_table(compared, middle, fine_tuning), config)  # before the tries are made
        said.append(own_settings.told(config, images, given, [method.settings for method in compared.values()]))
        workdir = local_path(FLAGS.workdir, "--workdir") / "tuning"
        values = tuned(compared, config, workdir, by=by, jobs=FLAGS.jobs, reuse=command.reused(FLAGS.reuse))
        return make_table(at_rates(compared, values), values, fine_tuning)

    command.start(
        _make_table,
        workdir="runs/benchmark",
        checked=True,  # of the middle values: those that are taken are no one's to give
        picture=Picture(
            "benchmark.png", lambda table, results: ranking.picture(table, ranking.rankings(table, results, RANKED))
        ),
        further=lambda table, results: "\n\n".join(
            filter(None, [ranking.markdown(table, ranking.rankings(table, results, RANKED)), *said])
        ),
    )
