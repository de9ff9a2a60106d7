"""Runs beside each other: `python -m care_jax.compare runs/simclr runs/care --out=compare.html`.

A table on standard output, and one HTML file with their curves over each other. A RUN is the folder of a run, a
pattern ('runs/*'), or a folder that runs lie in. Seeds of the same settings are one row, mean ± spread.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install("the runs are as they were; the same command compares them")
    extras.require_train()

from absl import app, flags

from care_jax.command_line import UsageError, fail, parse_flags, say, user_errors
from care_jax.storage import check_writable, local_path, replace_file

EXAMPLE = "care-jax compare runs/simclr runs/care"
FLAGS = flags.FLAGS
flags.DEFINE_string("out", "compare.html", "The HTML file to write; empty for none.")
flags.DEFINE_list("measures", [], "Measures of the table (docs/measures.md), by commas; nothing: the headlines.")


def main(argv: list[str]) -> None:
    """Wires the flags to a comparison."""
    with user_errors():
        if len(argv) < 2:
            raise UsageError(f"the folders of runs are missing: {EXAMPLE} for instance")
        out = local_path(FLAGS.out, "--out") if FLAGS.out else None
        if out is not None:
            if out.suffix.lower() not in (".html", ".htm"):
                raise UsageError(f"--out={FLAGS.out}: give the name of a page, compare.html for instance")
            check_writable(out, "--out")
        from care_jax.compare.comparison import compare  # JAX takes its time, a mistyped flag should answer at once

        comparison = compare(argv[1:])
        text = comparison.markdown(FLAGS.measures)
        for note in comparison.notes:
            say(note)
        print(text, flush=True)
        if out is not None:
            replace_file(out, comparison.page(out.parent, FLAGS.measures))
            say(f"{out} has the curves and all numbers")


def parse(argv: list[str]) -> list[str]:
    """The words, the command's name first; there are no settings here."""
    for word in argv[1:]:
        if word.startswith(("--config", "-config")):
            fail(f"{word}: runs are compared as they are, settings can't be changed")
    return parse_flags(argv, "", words=True)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
