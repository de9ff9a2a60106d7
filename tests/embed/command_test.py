"""The command: what is written, what is said, and what a signal leaves behind."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from care_jax import trained
from care_jax.command_line import UsageError
from care_jax.data import DataError
from care_jax.evaluate.embed import Embedder
from tests.saved_clouds import PIECES


@pytest.fixture(scope="module")
def embed(import_command):
    return import_command("care_jax.embed.__main__").embed


@pytest.mark.slow
def test_a_folder_with_a_broken_image(embed, saved_run, tmp_path, capsys):
    shutil.copytree(saved_run.images, tmp_path / "images")
    (tmp_path / "images" / "ant" / "02.png").write_bytes(b"broken")
    embed(saved_run.workdir, saved_run.config, tmp_path / "x.npy", images=str(tmp_path / "images"), what="embeddings")
    found = capsys.readouterr()
    assert f"{tmp_path / 'x.npy'}, {tmp_path / 'x.csv'}: 23 x 8 embeddings" in found.out
    assert "skipped 1 image file that could not be used (1 not an image)" in found.err
    embeddings = np.load(tmp_path / "x.npy")
    lines = (tmp_path / "x.csv").read_text().splitlines()
    assert embeddings.shape == (23, 8) and len(lines) == 24 and lines[2] == "2,ant/04.png,ant"
    assert lines[0] == "number_in_set,file,class"  # line i + 1 is of row i of the array, without the broken one
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-5)

    only = tmp_path / "only"
    only.mkdir()
    shutil.copy(tmp_path / "images" / "ant" / "02.png", only)
    with pytest.raises(DataError, match=r"not one of 1 images of .*only could be read: skipped 1"):
        embed(saved_run.workdir, saved_run.config, tmp_path / "y.npy", images=str(only))
    assert not list(tmp_path.glob("*y.*"))

    other = saved_run.config.copy_and_resolve_references()
    other.model.width = 5
    with pytest.raises(UsageError, match=r"not config\.model\.width: 4 -> 5"):
        embed(saved_run.workdir, other, tmp_path / "y.npy")
    assert trained.load(saved_run.workdir).step == 3


@pytest.mark.slow
def test_what_is_not_finite_is_said(embed, saved_run, tmp_path, capsys, monkeypatch):
    whole = Embedder.stream

    def stream(*given):
        for count, (rows, features, embeddings) in whole(*given):
            yield count, (rows, np.where(rows[:, None] % 10 == 3, np.nan, features), embeddings)

    monkeypatch.setattr(Embedder, "stream", stream)
    embed(saved_run.workdir, saved_run.config, tmp_path / "x.npy", images=str(saved_run.images))
    assert "the features of 3 of 24 are not finite, number 3 of the set first" in capsys.readouterr().err


@pytest.mark.slow
def test_a_signal_leaves_no_draft(saved_run, tmp_path):
    for i in range(3000):
        os.link(saved_run.images / "ant" / "00.png", tmp_path / f"{i}.png")
    out = tmp_path / "out"
    out.mkdir()
    arguments = [str(saved_run.workdir), f"--images={tmp_path}", f"--out={out / 'x.npy'}"]
    program = [sys.executable, "-m", "care_jax.embed", *arguments, "--config.evaluate.batch_size=1"]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process:
        while not list(out.iterdir()) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0 and "stopped by SIGTERM: nothing is written" in told
    assert not list(out.iterdir())


def test_clouds_have_names_and_nothing_is_left_of_a_failure(embed, saved_clouds, tmp_path, capsys):
    workdir, config, structures = saved_clouds
    embed(workdir, config, tmp_path / "x.npy")
    lines = (tmp_path / "x.csv").read_text().splitlines()
    assert lines[0] == "number_in_set,name" and np.load(tmp_path / "x.npy").shape == (len(lines) - 1, 8)
    assert re.fullmatch(r"0,p\d\.pdb:A residues 1-8", lines[1])
    embed(workdir, config, tmp_path / "y.npy", images=str(structures), what="embeddings")
    told = capsys.readouterr()
    assert f"{PIECES} x 4 embeddings" in told.out
    assert f"embeddings of {PIECES} clouds of {structures}, by step 0" in told.err
    assert "image" not in told.err.replace(str(tmp_path), "")
    with pytest.raises(DataError, match="no protein structures"):
        embed(workdir, config, tmp_path / "z.npy", images=str(workdir))
    assert not [*tmp_path.glob("*z.*")]
