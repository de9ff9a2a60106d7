"""Two abilities over training, one against the other: a curve a run of a table, from its monitors.

    python -m experiments.care_vs_simclr --config.train.evaluate_every_epochs=5.0
    python -m experiments.front                           # digits against hue, runs/care_vs_simclr/front.png

At equal steps runs that learn at other speeds are compared, and runs that lose on the way what others keep. Each point
is a row of the monitors (`evaluate.monitor`), later ones joined to earlier ones; the end of each run is marked.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install("nothing is lost; the same command draws")
    extras.require_train()

from pathlib import Path

from absl import app, flags
from matplotlib.figure import Figure

from care_jax.command_line import UsageError, parse_flags, say, user_errors
from care_jax.evaluate import plots
from care_jax.evaluate.evaluators import find
from care_jax.storage import check_writable, local_path, writing_to
from care_jax.train.metric_writer import read_metrics

FLAGS = flags.FLAGS

Curves = dict[str, list[list[tuple[float, float]]]]  # by the row of the table: of each seed, points in order of steps


def curves(workdir: Path, x: str, y: str) -> Curves:
    """The points of every run of a table.

    Args:
      workdir: of the table, with a folder ROW_seed_N a run.
      x, y: names of two measures of the monitors.

    Raises:
      UsageError: no such folder; no run in it has both.
    """
    found: Curves = {}
    for folder in sorted(workdir.glob("*_seed_*"), key=lambda path: path.name.rpartition("_seed_")):
        rows = read_metrics(folder, warn=say)
        points = [(row[x], row[y]) for row in rows if x in row and y in row]
        if points:
            found.setdefault(folder.name.rpartition("_seed_")[0], []).append(points)
    if not found:
        raise UsageError(
            f"no run in {workdir} has rows of {x} and {y} in its metrics.jsonl; --workdir is a table's folder"
        )
    return found


def picture(of_rows: Curves, x: str, y: str) -> Figure:
    """A curve a run, a colour a row."""
    figure, axis = plots.panel(5.2, 3.8)
    for (name, runs), colour, marker in zip(of_rows.items(), plots.PALETTE, plots.MARKERS, strict=False):
        for index, points in enumerate(runs):
            axis.plot(*zip(*points, strict=True), color=colour, alpha=0.6, label=None if index else name)
            axis.plot(*points[-1], color=colour, marker=marker)
    for set_label, name in ((axis.set_xlabel, x), (axis.set_ylabel, y)):
        measure = find(name)
        set_label(", ".join(filter(None, (measure.heading or name, measure.unit))))
    axis.legend()
    return figure


def main(argv: list[str]) -> None:
    """Wires the flags to a picture."""
    del argv
    with user_errors():
        workdir = local_path(FLAGS.workdir, "--workdir")
        out = local_path(FLAGS.out, "--out") if FLAGS.out else workdir / "front.png"
        for name in (FLAGS.x, FLAGS.y):
            try:
                find(name)
            except KeyError:
                raise UsageError(f"{name} is no measure; docs/measures.md names them") from None
        found = curves(workdir, FLAGS.x, FLAGS.y)
        if len(found) > len(plots.PALETTE):
            raise UsageError(
                f"{workdir} has {len(found)} rows, more than the {len(plots.PALETTE)} that colours tell apart"
            )
        if out.suffix not in (".png", ".svg"):
            raise UsageError(f"--out={out}: give a file that ends in .png or .svg")
        check_writable(out, "--out")
        with writing_to(out, "--out"):
            picture(found, FLAGS.x, FLAGS.y).savefig(out, dpi=110)
        say(f"{out}: {sum(map(len, found.values()))} runs of {', '.join(found)}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", "runs/care_vs_simclr", "Folder of a table's runs.")
    flags.DEFINE_string("x", "hue_knn_top1", "What goes to the right.")
    flags.DEFINE_string("y", "knn_top1", "What goes up.")
    flags.DEFINE_string("out", "", "The picture, .png or .svg; nothing: front.png in --workdir.")
    app.run(main, flags_parser=lambda argv: parse_flags(argv, "--workdir=runs/care_vs_simclr"))
