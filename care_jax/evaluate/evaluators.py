"""The evaluators by name: a new one is a file with its table of measures and its `run`, and a line here."""

import itertools
import re
from collections.abc import Iterable

from care_jax.data import CLASS
from care_jax.evaluate import (
    alignment,
    clouds,
    equivariance_error,
    finetune,
    knn,
    label_fractions,
    linear_probe,
    motion,
    parameters,
    term_space,
)
from care_jax.evaluate.measure import Evaluator, Measure

# In the order in which their numbers are written.
EVALUATORS = {
    "knn": Evaluator(knn.measures, knn.run),
    "linear_probe": Evaluator(linear_probe.measures, linear_probe.run),
    "equivariance": Evaluator(equivariance_error.measures, equivariance_error.run, of_embeddings=True),
    "motion": Evaluator(motion.measures, motion.run, of_embeddings=True),
    "parameters": Evaluator(parameters.measures, parameters.run, of_embeddings=True),
    "term_space": Evaluator(term_space.measures, term_space.run),
    "alignment": Evaluator(alignment.measures, alignment.run, of_embeddings=True),
    "clouds": Evaluator(clouds.measures, clouds.run, of_embeddings=True),
    "label_fractions": Evaluator(label_fractions.measures, label_fractions.run),
    "finetune": Evaluator(finetune.measures, finetune.run),
}

# What summary.json says beside them.
OF_THE_RUN = {
    "test_examples": Measure("held-out images evaluated", unit="images"),
    "images_per_second": Measure(
        "training speed: steps x train.batch_size / seconds",
        "images/s",
        better="higher",
        heading="speed",
        decimals=0,
        headline=True,
    ),
    "step_images_per_second": Measure(
        "speed of the steps alone: without compilation, monitors and saves; mean over the rows of metrics.jsonl, each "
        "by its seconds",
        "images/s",
        better="higher",
        heading="speed of steps",
        decimals=0,
    ),
    "seconds": Measure(
        "training, all resumed parts, compilation and monitors included", "s", heading="time", decimals=0
    ),
    "steps": Measure("updates made"),
    "params_sha256": Measure("of names, types, shapes and bytes of the parameters, in the order of their names"),
    "device": Measure("that it was trained on, number and kind; several, where it went on elsewhere, in their order"),
    "evaluated_on": Measure("number and kind of the devices of the evaluation"),
    "skipped_files": Measure("image files that could not be read"),
    "config": Measure("the settings that all this was made with"),
}

_SHARE = re.compile(r"_([0-9.]+)_percent_")  # of the labels, in the name of a measure


def measures(labellings: Iterable[str]) -> dict[str, Measure]:
    """Every number of summary.json, for a data set with these labellings."""
    labellings = tuple(labellings)
    tables = [evaluator.measures(labellings) for evaluator in EVALUATORS.values()]
    return {name: measure for table in (*tables, OF_THE_RUN) for name, measure in table.items()}


def of_numbers(names: Iterable[str], labellings: Iterable[str]) -> dict[str, Measure]:
    """The measures of these names, those of any share of the labels too; names that are no measure's are left out."""
    usual = measures(labellings)
    return {name: _of_share(usual[known], name) for name in names if (known := of_usual_share(name)) in usual}


def find(name: str) -> Measure:
    """The measure of that name, for whichever labelling it is; a KeyError where there is none.

    >>> find("hue_probe_top1").heading
    'hue probe'
    >>> find("linear_probe_2_percent_top1").unit
    '%'
    >>> find("linear_probe_2_percent_top1").heading
    'linear probe, 2 % of the labels'
    """
    usual, known = measures((CLASS,)), of_usual_share(name)
    beginnings = itertools.accumulate(known.split("_"), "{}_{}".format)
    return _of_share(usual[known] if known in usual else measures(beginnings)[known], name)


def _of_share(measure: Measure, name: str) -> Measure:
    """With the share of the labels that the name has in the heading."""
    share = _SHARE.search(name)
    return measure._replace(heading=measure.heading.replace("10 %", f"{share[1]} %")) if share else measure


def of_usual_share(name: str) -> str:
    """What a share of the labels measures, any other does too."""
    return _SHARE.sub("_10_percent_", name)
