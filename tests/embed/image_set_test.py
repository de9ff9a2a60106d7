"""Which images, and their names; embedded as an evaluation of the run embeds them."""

import gzip
import shutil

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
from tests.saved_clouds import PIECES


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
        "number_in_set": [0, 1, 2, 3],
        "file": ["b.png", "again/a.png", "again/deep/c.jpg", "broken/x.png"],
        "class": ["", "again", "again", "broken"],
    }
    assert "ignored 1 other files (.txt 1); passed over 1 names of folders" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "classes"),
    [
        (["test/ant/a.png", "test/b.png", "train/bee/c.png"], ["", "ant", "bee"]),
        (["car/a.png", "train/b.png"], ["car", "train"]),  # a class
        (["a.png", "train/b.png"], ["", "train"]),
    ],
)
def test_a_folder_with_a_split_is_taken_whole_too(tmp_path, files, classes):
    """What one trains on may be embedded: the second folder is the class then."""
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 8)).save(tmp_path / name)
    found = image_set.below(tmp_path)
    columns = found.columns(np.arange(len(files)))
    assert sorted(columns["file"]) == sorted(files) and sorted(columns["class"]) == classes


def test_a_folder_that_changed_since_the_run_began_is_told(saved_run, tmp_path, capsys):
    model = trained.load(saved_run.workdir)
    image_set.chosen(model.config, None, "test", model)
    assert "is not what the run was trained on" not in capsys.readouterr().err
    shutil.copytree(saved_run.images, tmp_path / "images")
    Image.new("RGB", (9, 8)).save(tmp_path / "images" / "ant" / "new.png")
    config = model.config.copy_and_resolve_references()
    config.data.root = str(tmp_path / "images")
    image_set.chosen(config, None, "test", model)
    told = capsys.readouterr().err
    assert "image_folder is not what the run was trained on (1 file added (ant/new.png)): images of its test" in told
    (tmp_path / "data.json.gz").write_bytes(b"damaged")
    image_set.chosen(config, None, "test", model._replace(workdir=tmp_path))
    assert "whether image_folder is what the run was trained on is not known: " in capsys.readouterr().err


def test_embeddings_of_a_head_that_nothing_trains_are_told_of(saved_run, capsys):
    model = trained.load(saved_run.workdir)
    image_set.tell_if_untrained(model, "embeddings")
    assert not capsys.readouterr().err
    model.config.loss.method = "none"
    model.config.equivariance.on = "features"
    image_set.tell_if_untrained(model, "features")
    assert not capsys.readouterr().err
    image_set.tell_if_untrained(model, "embeddings")
    told = "nothing in this objective trains the projection head, whose outputs embeddings are; "
    assert f"{told}--what=features is what was trained" in capsys.readouterr().err
    image_set.tell_if_untrained(model, "embeddings", instead="leave it")
    assert f"{told}leave it" in capsys.readouterr().err


def test_arrays_have_rows_and_labels(tiny_config):
    found = image_set.part_of(tiny_config(), "test")
    columns = found.columns(np.array([4, 1]))
    assert columns["number_in_set"] == [4, 1] and columns.keys() == {"number_in_set", "class", "hue"}


def test_what_is_not_there_is_one_line(tiny_config, tmp_path):
    with pytest.raises(UsageError, match="--part=all: give one of train, test, pretrain"):
        image_set.chosen(tiny_config(), None, "all")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match=r"no images .* in .*, only \.txt 1"):
        image_set.below(tmp_path)
    with pytest.raises(DataError, match=r"can't look into .*none"):
        image_set.below(tmp_path / "none")


def test_a_part_of_clouds_is_embedded_as_the_evaluation_does(saved_clouds):
    model = trained.load(saved_clouds.workdir)
    experiment = build.build(model.config, sharding.make_mesh(jax.devices()[:1]))
    expected = make_embedder(experiment)(model.encoder_variables, experiment.dataset.train)
    chosen = image_set.part_of(model.config, "train")
    embedder = image_set.make_embedder(model, model.config, chosen.skipped)
    ((_, (rows, features, embeddings)),) = embedder.stream(model.encoder_variables, chosen.examples)
    np.testing.assert_allclose(features, expected.features.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(embeddings, expected.embeddings, atol=1e-5)
    assert chosen.name == f"the {len(rows)} clouds of the train part of proteins"
    assert chosen.columns(rows[:2]) == {"number_in_set": [0, 1], "name": [*chosen.examples.names[:2]]}


def test_a_folder_of_structures_is_cut_whole(saved_clouds, tmp_path, capsys):
    shutil.copytree(saved_clouds.structures, tmp_path / "x" / "deep")
    with gzip.open(tmp_path / "x" / "again.pdb.gz", "wb") as packed:
        packed.write((saved_clouds.structures / "p0.pdb").read_bytes())
    (tmp_path / "x" / "broken.cif").write_text("data_")
    (tmp_path / "x" / "notes.txt").write_text("")
    found = image_set.chosen(saved_clouds.config, str(tmp_path / "x"), "test")
    assert len(found.examples) == PIECES and found.name == f"{PIECES} clouds of {tmp_path / 'x'}"
    columns = found.columns(np.array([0, PIECES - 1]))
    assert columns["name"] == ["again.pdb.gz:A residues 1-8", "deep/p5.pdb:A residues 10-21"]
    (told,) = capsys.readouterr().err.splitlines()
    assert "1 structure file that could" in told and "first broken.cif" in told and "other files (.txt 1)" in told
    assert "1 chain that could not be used (1 the same as one before), first deep/p0.pdb:A" in told
    # All of both parts of the data set, whose split there is not here.
    whole = [image_set.part_of(saved_clouds.config, part).examples for part in ("train", "test")]
    assert sum(map(len, whole)) == PIECES
    pieces = {cloud.tobytes() for examples in whole for cloud in examples.pixels}
    assert {cloud.tobytes() for cloud in found.examples.pixels} == pieces


def test_structures_that_are_not_there_are_one_line(saved_clouds, tmp_path):
    config = saved_clouds.config
    (tmp_path / "a.png").write_text("")
    with pytest.raises(DataError, match=r"no protein structures \(.*\) in .*, only \.png 1: give the folder"):
        image_set.chosen(config, str(tmp_path), "test")
    with pytest.raises(DataError, match=r"no folder .*none: give the one that holds the structures"):
        image_set.chosen(config, str(tmp_path / "none"), "test")
    longer = config.copy_and_resolve_references()
    longer.data.window_lengths = (64,)
    with pytest.raises(DataError, match="no protein chain of at least 64 residues in the 6 structure files"):
        image_set.chosen(longer, str(saved_clouds.structures), "test")
    with pytest.raises(DataError, match=r"no images .* only \.pdb 6"):
        image_set.below(saved_clouds.structures)
