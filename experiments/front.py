"""Two abilities over training, one against the other: a curve a run of a table, from its monitors.

    python -m experiments.care_vs_simclr --config.train.evaluate_every_epochs=5.0
    python -m experiments.front                           # digits against hue, runs/care_vs_simclr/front.png

At equal steps runs that learn at other speeds are compared, and runs that lose on the way what others keep. Each point
is a row of the monitors (`evaluate.monitor`), later ones joined to earlier ones; the end of each run is marked. Runs
that are not finished are passed over, which is said, as is what makes runs unlike.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install("nothing is lost; the same command draws")
    extras.require_train()

from absl import app, flags
from matplotlib.figure import Figure

from care_jax.command_line import UsageError, parse_flags, say, user_errors
from care_jax.evaluate import plots
from care_jax.evaluate.evaluators import find
from care_jax.storage import check_writable, local_path, writing_to
from experiments.course import courses_of, measure_of, whole
from experiments.finished import FinishedTable

FLAGS = flags.FLAGS

Curves = dict[str, list[list[tuple[float, float]]]]  # by the row of the table: of each seed, points in order of steps


def curves(table: FinishedTable, x: str, y: str) -> Curves:
    """The points of every run of a table.

    Args:
      table: its runs.
      x, y: names of two measures of the monitors.

    Raises:
      UsageError: a run has no row of both, or is of other data than the first.
    """
    found: Curves = {}
    for row, seeds in courses_of(table, (x, y)).items():
        for seed, course in seeds.items():
            points = [(known[x], known[y]) for known in whole(course, (x, y)).values()]
            if not points:
                raise UsageError(
                    f"{table.folders[row][seed]} has no row of both {x} and {y} in its metrics.jsonl; monitor both, or "
                    "leave its row out with --only"
                )
            found.setdefault(row, []).append(points)
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
        if out.suffix not in (".png", ".svg"):
            raise UsageError(f"--out={out}: give a file that ends in .png or .svg")
        for name in (FLAGS.x, FLAGS.y):
            measure_of(name)
        found = curves(FinishedTable(workdir, None, FLAGS.only), FLAGS.x, FLAGS.y)
        check_writable(out, "--out")
        with writing_to(out, "--out"):
            picture(found, FLAGS.x, FLAGS.y).savefig(out, dpi=110)
        say(f"{out}: {sum(map(len, found.values()))} runs of {', '.join(found)}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", "runs/care_vs_simclr", "Folder of a table's runs.")
    flags.DEFINE_string("x", "hue_knn_top1", "What goes to the right.")
    flags.DEFINE_string("y", "knn_top1", "What goes up.")
    flags.DEFINE_list("only", [], "Rows to draw, by the names of their folders, a,b for instance; nothing: all.")
    flags.DEFINE_string("out", "", "The picture, .png or .svg; nothing: front.png in --workdir.")
    app.run(main, flags_parser=lambda argv: parse_flags(argv, "--workdir=runs/care_vs_simclr"))
