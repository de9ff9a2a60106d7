"""`care-jax export` on a run's folder; another run begins with its folder, or with what was exported of it."""

import re

import flax.serialization
import jax
import numpy as np
import pytest

from care_jax import pretrained, trained
from care_jax.command_line import UsageError
from care_jax.embed import image_set
from care_jax.export.lines import ExportError
from tests.saved_clouds import make_cloud_config


@pytest.fixture(scope="module")
def export(import_command):
    return import_command("care_jax.export.__main__").export


@pytest.mark.slow
def test_a_run_is_exported_and_begun_from(export, saved_run, tiny_config, tmp_path, capsys):
    out = tmp_path / "weights.msgpack"
    for replaced in ("", ", replaced"):
        export(saved_run.workdir, saved_run.config, out, to="flax", head=False)
        said = capsys.readouterr()
        assert re.fullmatch(rf"care_jax: {out}{replaced}: resnet10 of step 3, 60 arrays, \d+\.\d kB\n", said.err)
    made: dict = {}
    exec(said.out, made)  # standard output is Python
    places = out, saved_run.workdir, saved_run.workdir / "checkpoints" / "3"
    read = [pretrained.read(tiny_config(model__init_from=str(place))) for place in places]
    for initial in read:
        jax.tree.map(np.testing.assert_array_equal, initial.variables, made["variables"])
    assert "60 of 60 arrays of step 3; not used: head; the projection head" in read[1].told[0]
    data = tiny_config().data
    assert [len(initial.lines(data)) for initial in read] == [1, 1, 1]  # the same normalisation


@pytest.mark.slow
def test_how_evaluation_cuts_images_is_written_and_may_be_changed(export, saved_run, tmp_path, capsys):
    config = saved_run.config.copy_and_resolve_references()
    for fraction, resize in ((1.0, 16), (0.8, 20)):
        config.evaluate.center_fraction = fraction
        capsys.readouterr()
        export(saved_run.workdir, config, tmp_path / "x", to="flax", head=True, step="0")
        saved = flax.serialization.msgpack_restore((tmp_path / "x").read_bytes())
        assert (saved["preprocessing"]["resize"], saved["preprocessing"]["image_size"]) == (resize, 16)
        assert ("data.stored_size=20 makes them the same" in capsys.readouterr().err) == (fraction < 1.0)
        assert saved["run"]["step"] == 0 and set(saved["variables"]["params"]) == {"backbone", "head"}
    config.model.width = 5
    with pytest.raises(UsageError, match=r"not config\.model\.width: 4 -> 5"):
        export(saved_run.workdir, config, tmp_path / "y", to="flax", head=True)
    assert not (tmp_path / "y").exists()


@pytest.mark.slow
def test_a_head_that_nothing_has_trained_is_told_of(export, saved_run, tmp_path, capsys, monkeypatch):
    model = trained.load(saved_run.workdir)
    model.config.loss.method, model.config.equivariance.on = "none", "features"
    monkeypatch.setattr(trained, "load", lambda place, step: model)
    told = "nothing in this objective trains the projection head, whose outputs embeddings are; without --head the file"
    for head in (True, False):
        export(saved_run.workdir, model.config, tmp_path / "x", to="flax", head=head)
        assert (told in capsys.readouterr().err) == head


@pytest.mark.slow
def test_a_run_on_clouds_is_exported_and_begun_from(export, saved_clouds, tmp_path, capsys):
    workdir, config, structures = saved_clouds
    out = tmp_path / "weights.msgpack"
    export(workdir, config, out, to="flax", head=True)
    said = capsys.readouterr()
    assert "deep_set and its projection head of step 0" in said.err
    made: dict = {}
    exec(said.out, made)  # standard output is Python
    clouds = image_set.clouds_below(structures, config).examples.pixels[:6]
    model = trained.load(workdir)
    expected = jax.jit(model.encoder.apply)(model.encoder_variables, clouds)
    for theirs, ours in zip(made["module"].apply(made["variables"], clouds), expected, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-6)
    saved = flax.serialization.msgpack_restore(out.read_bytes())
    assert saved["preprocessing"]["angstrom"] == 15.0 and saved["preprocessing"]["residues"] == [8, 12]
    assert "less their mean" in saved["preprocessing"]["points"] and saved["run"]["pooling"] == "mean"
    export(workdir, config, out, to="flax", head=False)
    for place in (out, workdir):
        initial = pretrained.read(make_cloud_config(structures, model__init_from=str(place)))
        jax.tree.map(np.testing.assert_array_equal, initial.variables["params"], model.variables["params"]["backbone"])
        assert len(initial.lines(config.data)) == 1


@pytest.mark.parametrize("to", ["torch", "safetensors"])
def test_clouds_are_for_flax_alone(to, export, saved_clouds, tmp_path):
    with pytest.raises(ExportError, match=f"--to={to}: neither torchvision nor timm has a deep_set, .*--to=flax"):
        export(saved_clouds.workdir, saved_clouds.config, tmp_path / "x", to=to, head=False)
    changed = saved_clouds.config.copy_and_resolve_references()
    changed.model.pooling = "sum"
    with pytest.raises(
        UsageError, match=r"no setting may be changed here, but there is config.model.pooling: 'mean' -> 'su"
    ):
        export(saved_clouds.workdir, changed, tmp_path / "x", to="flax", head=False)
    assert not [*tmp_path.iterdir()]
