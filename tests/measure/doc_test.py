"""docs/measure.md has the augmentations and strengths that there are."""

from pathlib import Path

from care_jax.evaluate.strengths import SWEEPS

PAGE = (Path(__file__).parents[2] / "docs" / "measure.md").read_text()


def test_the_page_lists_the_augmentations_as_they_are():
    for name, sweep in SWEEPS.items():
        assert f"| `{name}` | {sweep.meaning} | {', '.join(f'{value:g}' for value in sweep.strengths)} |" in PAGE
