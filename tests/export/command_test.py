"""`care-jax export` on a run's folder; another run begins with its folder, or with what was exported of it."""

import re
import sys
from pathlib import Path

import flax.serialization
import jax
import numpy as np
import pytest
from absl import flags

from care_jax import pretrained
from care_jax.experiment import build
from care_jax.train.checkpoint import Checkpoints
from care_jax.workdir import plain


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, tiny_config) -> Path:
    """A run that made no step; its arrays hold anything."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    config = tiny_config(evaluate__center_fraction=0.8)
    shapes = build.abstract_state(build.build(config))
    state = jax.tree.map(
        lambda leaf: jax.device_put(np.arange(leaf.size).reshape(leaf.shape).astype(leaf.dtype)), shapes
    )
    checkpoints = Checkpoints(path / "checkpoints")
    checkpoints.save(state, info={"config": plain(config), "seconds": 1.0})
    checkpoints.close()
    return path


@pytest.fixture(scope="module")
def main():
    """The command as a program calls it, without its flags staying behind."""
    before = set(flags.FLAGS)
    from care_jax import trained
    from care_jax.export import __main__ as command

    def call(*words: str) -> None:
        values = flags.FLAGS
        values.unparse_flags()
        for name in set(values) - before - {"to", "out", "head", "step"}:
            delattr(values, name)
        for name in ("to", "out", "head", "step"):
            values[name].unparse()
        sys.argv = ["export", *words]  # where ml_collections looks for settings
        command.main(["export", *trained.parse(sys.argv, command.EXAMPLE)])

    argv = sys.argv
    yield call
    sys.argv = argv
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


@pytest.mark.slow
def test_a_run_is_exported_and_begun_from(main, workdir, tiny_config, tmp_path, capsys):
    out = tmp_path / "weights.msgpack"
    for replaced in ("", ", replaced"):
        main(str(workdir), "--to=flax", f"--out={out}")
        said = capsys.readouterr()
        assert re.fullmatch(rf"care_jax: {out}{replaced}: resnet10 of step 0, 60 arrays, \d+\.\d kB\n", said.err)
    made: dict = {}
    exec(said.out, made)  # standard output is Python
    read = [
        pretrained.read(tiny_config(model__init_from=str(place))) for place in (out, workdir, workdir / "checkpoints/0")
    ]
    for initial in read:
        jax.tree.map(np.testing.assert_array_equal, initial.variables, made["variables"])
    assert "60 of 60 arrays of step 0; not used: head; the projection head" in read[1].told[0]
    data = tiny_config().data
    assert [len(initial.lines(data)) for initial in read] == [1, 1, 1]  # the same normalisation


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--to=flax", "--out=x"], "the folder of a run is missing"),
        (["RUN", "--to=flax"], "--out is missing"),
        (["RUN", "--out=x"], "--to is missing: choose one of torch, safetensors, flax"),
        (["RUN", "--to=onnx", "--out=x"], "--to=onnx: choose one of"),
        (["RUN", "--to=flax", "--out=."], "it is a folder|Is a directory"),
        (["RUN", "--to=flax", "--out=none/x"], r"--out=none/x: can't write there \(No such file or directory\)"),
        (["RUN", "--to=flax", "--out=gs://b/x"], "--out=gs://b/x is an address"),
        (["RUN", "--to=flax", "--out=x", "--step=7"], "no checkpoint of step 7"),
        (["RUN", "--to=flax", "--out=x", "--config.model.width=8"], "not config.model.width: 4 -> 8"),
        (["none", "--to=flax", "--out=x"], "none is not the folder of a run"),
        (["RUN", "more", "--to=flax", "--out=x"], "'more' is one word too many"),
        (["RUN", "--too=flax"], "Unknown command line flag 'too'"),
    ],
)
def test_mistakes_are_one_line(words, told, main, workdir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(*(str(workdir) if word == "RUN" else word for word in words))
    assert left.value.code == 2
    said = capsys.readouterr()
    assert re.search(told, said.err) and said.err.count("\n") == 1 and said.err.startswith("care_jax: ")
    assert not said.out and not list(tmp_path.iterdir())


def test_how_evaluation_cuts_images_is_written_and_may_be_changed(main, workdir, tmp_path):
    for flag, resize in (([], 20), (["--config.evaluate.center_fraction=1.0"], 16)):
        main(str(workdir), "--to=flax", "--head", f"--out={tmp_path / 'x'}", *flag)
        saved = flax.serialization.msgpack_restore((tmp_path / "x").read_bytes())
        assert (saved["preprocessing"]["resize"], saved["preprocessing"]["image_size"]) == (resize, 16)
        assert saved["run"]["step"] == 0 and set(saved["variables"]["params"]) == {"backbone", "head"}
