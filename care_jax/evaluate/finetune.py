"""Fine-tuning: what the encoder's parameters are worth as a start, where the frozen probe judges its features."""

import math
from collections.abc import Iterable
from typing import Any

import jax

from care_jax.command_line import say
from care_jax.data import CLASS
from care_jax.devices.distributed import is_first
from care_jax.evaluate import subsets
from care_jax.evaluate.embedded import EmbeddedDataSet
from care_jax.evaluate.fit import Fit
from care_jax.evaluate.label_fractions import summarized
from care_jax.evaluate.measure import Measure, Missing, Numbers
from care_jax.evaluate.subsets import balanced, percent

_USUAL = (1.0, 0.01, 0.1)
_LEAST = 2  # images that batch norm needs
_FEW_STEPS = 100  # with fewer, the running averages of batch norm have hardly left those of the run


def measures(labellings: Iterable[str]) -> dict[str, Measure]:
    """Three a share of the labels, of the usual shares: of others the number in their names is another."""
    table: dict[str, Measure] = {}
    for fraction in _USUAL if CLASS in labellings else ():
        share = " on that share of the training labels, as many images of each class, one at least"
        table |= subsets.measures(
            _name(fraction),
            "test images whose class is told after training the whole backbone and a linear classifier"
            f"{'' if fraction == 1 else share}, where evaluate.finetune.enabled is set; mean over "
            "evaluate.finetune.num_seeds starts of the classifier, orders, crops and subsets (those of "
            "linear_probe_..._percent_top1)",
            over="seed",
            heading="fine-tuned" if fraction == 1 else f"fine-tuned, {percent(fraction)} % of the labels",
        )
    return table


def run(embedded: EmbeddedDataSet, settings: Any) -> Numbers:
    """Mean and standard deviation over seeds, in percent, for each share; nothing where it is not enabled."""
    numbers: Numbers = {}
    tuning = settings.finetune
    if tuning.enabled and not tuning.label_fractions:
        embedded.notes.append("evaluate.finetune.label_fractions is empty: nothing is fine-tuned; (1.0,) is all labels")
    for fraction in dict.fromkeys(tuning.label_fractions) if tuning.enabled else ():
        name = _name(fraction)
        numbers |= {f"{name}_top1": None, f"{name}_top1_spread": None, f"{name}_examples": None}
        if CLASS in embedded.experiment.dataset.num_classes:
            found = _of_share(embedded, settings, fraction)
            numbers |= {f"{name}_{of}": value for of, value in found.items()}
    return numbers


def _name(fraction: float) -> str:
    return "finetune" if fraction == 1 else f"finetune_{percent(fraction)}_percent"


def _of_share(embedded: EmbeddedDataSet, settings: Any, fraction: float) -> Numbers:
    tuning, dataset = settings.finetune, embedded.experiment.dataset
    readable = embedded.part("train").rows
    labels = dataset.train.labels[CLASS][readable]
    accuracies: list[float] = []
    for seed in range(tuning.num_seeds):
        chosen, told = balanced(labels, fraction, seed=settings.seed, draw=seed)
        # In a process alone as many devices take part as divide the batch.
        unit = embedded.embedder.mesh.size if jax.process_count() > 1 else 1
        batch_size = min(tuning.batch_size, len(chosen)) // unit * unit
        if batch_size < _LEAST:
            missing = Missing(f"a batch of {min(tuning.batch_size, len(chosen))} images is too small on {unit} devices")
            return {"top1": missing, "top1_spread": missing, "examples": len(chosen)}
        if seed == 0:
            fit = Fit(embedded, tuning, batch_size=batch_size, num_steps=tuning.epochs * (len(chosen) // batch_size))
            _tell(
                f"fine-tuning on {len(chosen):,} of {len(labels):,} labelled images: {fit.num_steps:,} steps of "
                f"{batch_size}, {tuning.num_seeds} times"
            )
            if fit.num_steps < _FEW_STEPS:
                few = f"{fit.num_steps} steps are few; a smaller evaluate.finetune.batch_size or more epochs make more"
                told = "; ".join(filter(None, [told, few]))
            embedded.notes.extend([f"{_name(fraction)}_top1: {told}"] if told else [])
        rows = readable[chosen]
        train = dataset.train if len(rows) == len(dataset.train) else dataset.train.take(rows)
        correct = fit(train, dataset.test, settings.seed + seed)
        if math.isnan(correct):
            missing = Missing("training diverged: try a smaller evaluate.finetune.learning_rate")
            return {"top1": missing, "top1_spread": missing, "examples": len(chosen)}
        accuracies.append(100.0 * correct)
        _tell(f"{_name(fraction)}_top1, seed {seed + 1} of {tuning.num_seeds}: {accuracies[-1]:.1f} %")
    return {**summarized(accuracies, "evaluate.finetune.num_seeds"), "examples": len(chosen)}


def _tell(text: str) -> None:
    if is_first():
        say(text)
