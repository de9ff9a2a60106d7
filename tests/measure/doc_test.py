"""docs/measure.md has the augmentations and strengths that there are."""

from pathlib import Path

import pytest

from care_jax.evaluate.strengths import sweeps_of

PAGE = (Path(__file__).parents[2] / "docs" / "measure.md").read_text()


@pytest.mark.parametrize("clouds", [False, True])
def test_the_page_lists_the_augmentations_as_they_are(clouds):
    for name, sweep in sweeps_of(clouds).items():
        assert f"| `{name}` | {sweep.meaning} | {', '.join(f'{value:g}' for value in sweep.strengths)} |" in PAGE
