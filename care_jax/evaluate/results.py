"""What a run leaves for its reader: summary.json and report.html."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from care_jax import storage
from care_jax.command_line import say
from care_jax.data import Examples
from care_jax.devices.distributed import is_first
from care_jax.evaluate import pictures, report
from care_jax.evaluate.embed import Embedder
from care_jax.evaluate.evaluation import Evaluation, evaluate, make_embedder
from care_jax.evaluate.retrieval import hue_retrieval
from care_jax.experiment.build import Experiment
from care_jax.experiment.config import leaves
from care_jax.train.metric_writer import read_metrics
from care_jax.train.state import params_sha256
from care_jax.workdir import plain

_MEANING = {
    "knn_top1": "% of test images whose class wins the vote of their nearest training images",
    "linear_probe_top1": "% of test images that a linear classifier on frozen features gets right, mean over seeds",
    "linear_probe_top1_spread": "standard deviation over the probe seeds, points",
    "hue_probe_top1": "% for the hue the digit was tinted with, one of 8",
    "hue_probe_top1_spread": "standard deviation over the probe seeds, points",
    "wahba_mean": "what the best rotation leaves: min over SO(d) of |F R' - Fa| / sqrt(n), mean over augmentations",
    "wahba_worst": "the same, worst of the drawn augmentations",
    "wahba_orthogonal_mean": "the same over O(d), mean",
    "wahba_orthogonal_worst": "the same over O(d), worst",
    "displacement_mean": "|F - Fa| / sqrt(n): how far the augmentations move the embeddings",
    "relative_equivariance_mean": "relative rotational equivariance, mean over pairs and draws; lower is better",
    "relative_equivariance_median": "the same, median over pairs and augmentations",
    "relative_equivariance_examples": "test images behind the two numbers above",
    **{
        f"{space}_{name}": f"the same where the equivariance term acts, on the {of}"
        for space, of in (("features", "unit features"), ("head", "unit outputs of its own head"))
        for name in ("wahba_mean", "displacement_mean", "relative_equivariance_median")
    },
    "group_residual_mean": "what the best member found of the term's group leaves: |F R' - Fa| / sqrt(n), mean",
    "group_displacement_mean": "|F - Fa| / sqrt(n) of the vectors that this group acts on",
    "alignment": "minus the mean cosine of two views; -1 is invariant",
    "uniformity": "mean log of the mean over negatives of exp(cosine); lower is more spread",
    "test_examples": "held-out images evaluated",
    "images_per_second": "training speed, median over the log",
    "seconds": "training time, compilation included",
    "steps": "updates made",
    "params_sha256": "of the parameters, in a fixed order",
}


def write(
    experiment: Experiment,
    workdir: Path,
    variables: dict[str, Any],
    *,
    step: int,
    seconds: float,
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Evaluates, then writes `summary.json` and `report.html` into `workdir`.

    Args:
      experiment: its data, encoder and settings.
      workdir: folder of the run, with its `metrics.jsonl`.
      variables: of the encoder.
      step: updates behind them.
      seconds: of training behind them.
      check: called before and after the files are written; raises where the folder is no longer the run's.

    Returns:
      The content of summary.json.
    """
    embedder = make_embedder(experiment)
    evaluation = evaluate(experiment, embedder, variables)
    for note in evaluation.notes if is_first() else ():
        say(note)
    rows = [row for row in read_metrics(workdir) if row["step"] <= step]
    speeds = [row["images_per_second"] for row in rows if "images_per_second" in row]
    summary = {
        **evaluation.numbers,
        # The first row holds the compilation.
        "images_per_second": float(np.median(speeds[1:] or speeds)) if speeds else None,
        "seconds": seconds,
        "steps": step,
        "params_sha256": params_sha256(variables["params"]),
        "device": f"{experiment.mesh.size} x {jax.devices()[0].device_kind}",
        "skipped_files": len(experiment.dataset.skipped),
        "config": plain(experiment.config),
    }
    text = _report(experiment, embedder, variables, evaluation, summary, rows)
    check()
    if is_first():
        storage.replace_file(workdir / "summary.json", json.dumps(summary, indent=2) + "\n")
        storage.replace_file(workdir / "report.html", text)
    check()
    return summary


def _report(
    experiment: Experiment,
    embedder: Embedder,
    variables: dict[str, Any],
    evaluation: Evaluation,
    summary: dict[str, Any],
    rows: list[dict[str, float]],
) -> str:
    config, dataset = experiment.config, experiment.dataset
    shown: dict[str, Any] = {
        "Loss": (pictures.loss_curves(rows), "Terms of the loss before weighting, and the monitors, over the steps."),
    }
    # Encoded sets are too large to keep their pixels; a few are decoded for the pictures.
    few = few_images(embedder, dataset.pretrain, 8)
    shown["Drawn augmentations"] = (
        pictures.augmentation_grid(experiment.plan, few),
        "Invariance views are drawn image by image, for the contrastive loss. An equivariance view's draw is the same "
        "for all images of a group: compare the colours and boxes along a row.",
    )
    shown["Is an augmentation a rotation?"] = (
        pictures.wahba_scatter(evaluation.equivariance),
        "A point is one drawn augmentation applied to all test images. On the dashed line no rotation of the "
        "embeddings explains anything of what it did; on the horizontal axis one rotation explains everything.",
    )
    bank = evaluation.test.embeddings[:2048]
    bank_images = few_images(embedder, dataset.test, len(bank))
    chosen = np.linspace(0, len(bank_images) - 1, min(6, len(bank_images))).astype(int)
    found = hue_retrieval(embedder, variables, bank_images, bank, chosen)
    shown["Nearest neighbours before and after a hue change"] = (
        pictures.neighbour_grid(found, bank_images),
        "Test images, their nearest test images, and the same for the image with its hue turned by a third of the "
        "circle. An equivariant encoder's neighbours follow the hue; an invariant one's stay.",
    )
    settings = config.equivariance
    added = f" + {settings.term}, lambda {settings.weight:g}" if settings.weight else ""
    title = f"care_jax: {dataset.name}, {config.loss.method}{added}"
    subtitle = (
        f"{config.model.backbone} of width {config.model.width}, {summary['steps']} steps of {config.train.batch_size} "
        f"images, seed {config.seed}, {summary['device']}, {summary['seconds']:.0f} s of training."
        + ("" if dataset.num_classes else " No labels: the probes are off.")
    )
    numbers = {name: (summary[name], meaning) for name, meaning in _MEANING.items() if name in summary}
    return report.write_html(title, subtitle, numbers, shown, leaves(config.to_dict()))


def few_images(embedder: Embedder, examples: Examples, count: int) -> np.ndarray:
    """The first readable images, [at most count, h, w, 3] uint8."""
    if examples.resident:
        return examples.pixels[:count]
    images: list[np.ndarray] = []
    for batch, _, mask in embedder.batches(examples, all_rows=True):
        images.extend(batch[mask])
        if len(images) >= count:
            break
    return np.asarray(images[:count])
