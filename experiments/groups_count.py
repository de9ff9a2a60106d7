"""Images a group, and one pair of draws for the whole batch: is the latter unstable, as the paper says?

    python -m experiments.groups_count                               # configs/digits.py, 3 seeds each
    python -m experiments.groups_count --images=4,128 --dimensions=16,256

The loss sums over the other images of a group, so lambda (n - 1) is what decides: every row keeps that of the
configuration, `--same_lambda` keeps lambda. The last row has the official code's one pair of draws a batch
(`equivariance.draws=batch`). Each run has its folder under --workdir and is not made again if it is there.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install()  # before what takes time
    extras.require_train()

import ml_collections
from absl import flags

from care_jax.command_line import UsageError
from care_jax.sweep.table import Row, Table
from experiments import command

COLUMNS = (
    "rotation_share_explained",
    "relative_equivariance_median",
    "displacement_mean",
    "linear_probe_top1",
    "hue_probe_top1",
    "knn_top1",
)


def make_table(
    config: ml_collections.ConfigDict, images: list[int], dimensions: list[int], *, same_lambda: bool = False
) -> Table:
    """A row a number of images and of dimensions, and one with a pair of draws a batch for each dimension.

    Args:
      config: of all rows.
      images: in a group; divisors of the images that the term uses, from 2 on.
      dimensions: of the embedding.
      same_lambda: lambda is the configuration's in every row; else lambda (n - 1) is.

    Raises:
      UsageError: no number of images, or of dimensions; one that does not divide them; a lambda of 0.
    """
    command.check_some({"--images": images, "--dimensions": dimensions})
    equivariance, own_weight = config.equivariance, command.own_weight(config)
    total = command.own_batch(config) if equivariance.batch_size is None else equivariance.batch_size
    if equivariance.num_groups is None:
        raise UsageError("config.equivariance.num_groups has no value: give one, --config.equivariance.num_groups=4")
    usual = total // equivariance.num_groups
    rows = {}
    for size in dimensions:
        own = f"d{size}_images_{usual}"
        for number in images:
            if number < 2 or total % number:
                raise UsageError(f"--images={number}: give numbers from 2 on that divide the {total} of a batch")
            weight = own_weight * (1.0 if same_lambda else (usual - 1) / (number - 1))
            name = f"d{size}_images_{number}"
            settings = {"equivariance.num_groups": total // number, "equivariance.weight": weight}
            against = own if usual in images and number != usual else ""
            rows[name] = Row(
                (f"{size}", f"{number}", "group", f"{weight:.3g}"), settings | {"model.head_size": size}, against
            )
        settings = {"equivariance.draws": "batch", "model.head_size": size}
        labels = (f"{size}", f"{usual}", "batch", f"{own_weight:.3g}")
        rows[f"d{size}_draws_batch"] = Row(labels, settings, own if usual in images else "")
    headings = ("dimensions", "images a group", "a pair of draws a", "lambda")
    return Table(headings, rows, COLUMNS, ("rotation_share_explained", "linear_probe_top1"))


if __name__ == "__main__":
    flags.DEFINE_list("images", ["4", "16", "64", "128"], "Images a group.")
    flags.DEFINE_list("dimensions", ["16", "64", "256"], "Of the embedding.")
    flags.DEFINE_bool("same_lambda", False, "lambda is the configuration's in every row; else lambda (n - 1) is.")
    FLAGS = flags.FLAGS
    command.start(
        lambda config: make_table(
            config,
            command.whole_numbers("--images", FLAGS.images),
            command.whole_numbers("--dimensions", FLAGS.dimensions),
            same_lambda=FLAGS.same_lambda,
        ),
        workdir="runs/groups_count",
    )
