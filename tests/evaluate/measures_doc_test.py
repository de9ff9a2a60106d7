"""docs/measures.md has the evaluators' tables. To write them anew: `python -m tests.evaluate.measures_doc_test`."""

from pathlib import Path

from care_jax.evaluate.evaluators import EVALUATORS, OF_THE_RUN
from care_jax.evaluate.measure import Measure

PAGE = Path(__file__).parents[2] / "docs" / "measures.md"
LABELLINGS = ("class", "hue")  # of the data sets that come with the package


def _table(measures: dict[str, Measure]) -> str:
    lines = ["| name | what it is | unit | better | chance |", "|---|---|---|---|---|"]
    for name, measure in measures.items():
        cells = (f"`{name}`", measure.meaning, measure.unit, measure.better, measure.chance)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def _written(page: str) -> str:
    begin = page.index("-->\n", page.index("<!-- generated")) + 4
    tables = {f"`{name}`": evaluator.measures(LABELLINGS) for name, evaluator in EVALUATORS.items()}
    tables["The run"] = OF_THE_RUN
    text = "\n\n".join(f"### {heading}\n\n{_table(measures)}" for heading, measures in tables.items())
    return page[:begin] + f"\n{text}\n\n" + page[page.index("<!-- end -->") :]


def test_the_page_has_the_tables():
    page = PAGE.read_text()
    assert page == _written(page), "run python -m tests.evaluate.measures_doc_test"


if __name__ == "__main__":
    PAGE.write_text(_written(PAGE.read_text()))
