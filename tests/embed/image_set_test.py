"""Which images, and their names; embedded as an evaluation of the run embeds them."""

import jax
import numpy as np
import pytest
from PIL import Image

from care_jax import trained
from care_jax.command_line import UsageError
from care_jax.data import DataError
from care_jax.devices import sharding
from care_jax.embed import image_set
from care_jax.evaluate.embedded import make_embedder
from care_jax.experiment import build


@pytest.mark.slow
@pytest.mark.parametrize(("stored", "fraction"), [(None, 1.0), (20, 0.75)])
def test_a_part_is_embedded_as_the_evaluation_does(saved_run, stored, fraction):
    model = trained.load(saved_run.workdir)
    config = model.config.copy_and_resolve_references()
    config.data.stored_size, config.evaluate.center_fraction, config.evaluate.batch_size = stored, fraction, 5
    experiment = build.build(config, sharding.make_mesh(jax.devices()[:1]))
    expected = make_embedder(experiment)(model.encoder_variables, experiment.dataset.train)
    chosen = image_set.part_of(config, "train")
    assert not chosen.examples.resident
    embedder = image_set.make_embedder(model, config, chosen.skipped)
    streamed = list(embedder.stream(model.encoder_variables, chosen.examples))
    rows, features, embeddings = (np.concatenate(parts) for parts in zip(*(one for _, one in streamed), strict=True))
    assert rows.tolist() == [*range(len(chosen.examples))] and len(streamed) > 2
    np.testing.assert_allclose(features, expected.features.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(embeddings, expected.embeddings, atol=1e-5)
    columns = chosen.columns(rows)
    assert columns["class"] == [file.split("/")[0] for file in columns["file"]]
    assert {"ant", "bee"} == set(columns["class"])


def test_a_folder_is_taken_whole_in_depth(tmp_path, capsys):
    for name in ("b.png", "ant/a.png", "ant/deep/c.jpg", "broken/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 8)).save(tmp_path / name)
    (tmp_path / "broken" / "x.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "again").symlink_to(tmp_path / "ant")
    found = image_set.below(tmp_path)
    assert found.columns(np.arange(4)) == {
        "row": [0, 1, 2, 3],
        "file": ["b.png", "again/a.png", "again/deep/c.jpg", "broken/x.png"],
        "class": ["", "again", "again", "broken"],
    }
    assert "ignored 1 other files (.txt 1); passed over 1 names of folders" in capsys.readouterr().err


def test_arrays_have_rows_and_labels(tiny_config):
    found = image_set.part_of(tiny_config(), "test")
    columns = found.columns(np.array([4, 1]))
    assert columns["row"] == [4, 1] and columns.keys() == {"row", "class", "hue"}


def test_what_is_not_there_is_one_line(tiny_config, tmp_path):
    with pytest.raises(UsageError, match="--part=all: give one of train, test, pretrain"):
        image_set.chosen(tiny_config(), None, "all")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match=r"no images .* in .*, only \.txt 1"):
        image_set.below(tmp_path)
    with pytest.raises(DataError, match=r"can't look into .*none"):
        image_set.below(tmp_path / "none")
