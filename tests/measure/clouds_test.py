"""The command on a run on clouds of points: its own clouds, any structures, and augmentations that are of images."""

import re
import shutil

import pytest

from tests.saved_clouds import PIECES


@pytest.mark.slow
def test_a_run_on_clouds_is_measured(measure, saved_clouds, tmp_path, capsys):
    found = measure(
        *(str(saved_clouds.workdir), "--part=train", "--augmentations=rotation,scaling", "--num_images=40"),
        "--config.evaluate.num_augmentations=2",
    )
    assert list(found["augmentations"]) == ["rotation", "scaling"]
    strengths = [entry["strength"] for entry in found["augmentations"]["rotation"]["strengths"]]
    assert strengths == [15, 45, 90, 135, 180]
    assert found["augmentations"]["rotation"]["composition"]["strengths"] == [45, 90]
    assert "images" not in found and found["clouds"]["taken"] == found["embeddings"]["n"] <= 40
    assert found["encoder"].keys() == {"name", "what", "steps", "params_sha256"}
    assert found["draws"]["numbers"]["displacement_mean"] > 0 and "all clouds" in found["draws"]["of"]
    said = capsys.readouterr()
    page = re.sub(r"<svg.*?</svg>", "", (tmp_path / "out" / "measure.html").read_text(), flags=re.DOTALL)
    assert not [text for text in (said.out, said.err, page) if re.search(r"\bimages?\b", text)]


@pytest.mark.slow
def test_a_run_on_clouds_is_measured_on_any_structures(measure, saved_clouds, tmp_path):
    shutil.copytree(saved_clouds.structures, tmp_path / "mine")
    found = measure(
        *(str(saved_clouds.workdir), "--images=mine", "--augmentations=dropping", "--strengths=0.2"),
        *("--what=features", "--num_images=40", "--config.evaluate.num_augmentations=2"),
    )
    assert found["clouds"] == {"of": f"{PIECES} clouds of mine", "taken": 40}
    assert list(found["augmentations"]) == ["dropping"] and found["embeddings"]["d"] == 8


def test_augmentations_of_images_are_refused_for_a_run_on_clouds(measure, saved_clouds, capsys):
    with pytest.raises(SystemExit) as left:
        measure(str(saved_clouds.workdir), "--augmentations=rotation,hue")
    assert left.value.code == 2
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith(
            "--augmentations: 'hue' is one of images; of clouds of points there are rotation, scaling, jitter, dropping"
        )
    )
