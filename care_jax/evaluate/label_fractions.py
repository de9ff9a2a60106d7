"""The linear probe with few labels: how many of them the encoder's features save."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from care_jax.data import CLASS
from care_jax.evaluate import linear_probe, subsets
from care_jax.evaluate.embedded import EmbeddedDataSet
from care_jax.evaluate.measure import Measure, Missing, Numbers
from care_jax.evaluate.rows import Rows
from care_jax.evaluate.subsets import balanced, percent

USUAL = (0.01, 0.1)


def measures(labellings: Iterable[str]) -> dict[str, Measure]:
    """Three a share, of the usual shares: those of any other are the same but for the number in their names."""
    table: dict[str, Measure] = {}
    for fraction in USUAL if CLASS in labellings else ():
        table |= subsets.measures(
            f"linear_probe_{percent(fraction)}_percent",
            "as linear_probe_top1, with the labels of that share of the training images (evaluate.label_fractions), as "
            "many of each class, one at least; mean over evaluate.probe.num_seeds drawn subsets, the same for every "
            "run, each with a start and an order of its own; as many updates as with all labels",
            over="subset",
            heading=f"linear probe, {percent(fraction)} % of the labels",
        )
    return table


def run(embedded: EmbeddedDataSet, settings: Any) -> Numbers:
    """Mean and standard deviation over the subsets, in percent, for each of `settings.label_fractions`."""
    numbers: Numbers = {}
    for fraction in dict.fromkeys(settings.label_fractions):
        name = f"linear_probe_{percent(fraction)}_percent"
        numbers |= {f"{name}_top1": None, f"{name}_top1_spread": None, f"{name}_examples": None}
        sets = embedded.labelled(CLASS)
        if sets is None:
            continue
        features, labels = sets.train_features, sets.train_labels
        accuracies = []
        for draw in range(settings.probe.num_seeds):
            rows, told = balanced(labels, fraction, seed=settings.seed, draw=draw)
            found = linear_probe.linear_probe(
                Rows(features.array, features.places[rows]),
                {CLASS: labels[rows]},
                sets.test_features,
                {CLASS: sets.test_labels},
                num_classes={CLASS: embedded.experiment.dataset.num_classes[CLASS]},
                **linear_probe.training(settings.probe, len(labels), len(rows)),
                num_seeds=1,
                first_seed=draw,
            )
            accuracies.append(100.0 * float(found[CLASS][0]))
            if told and draw == 0:
                embedded.notes.append(f"{name}_top1: {told}")
        numbers |= {f"{name}_{of}": value for of, value in summarized(accuracies, "evaluate.probe.num_seeds").items()}
        numbers[f"{name}_examples"] = len(rows)
    return numbers


def summarized(percents: list[float], setting: str) -> dict[str, float | Missing]:
    """ "top1", the mean over seeds, and "top1_spread", their standard deviation; `setting` is the number of seeds."""
    spread = (
        float(np.std(percents, ddof=1)) if len(percents) > 1 else Missing(f"needs at least 2 seeds, {setting} is 1")
    )
    return {"top1": float(np.mean(percents)), "top1_spread": spread}
