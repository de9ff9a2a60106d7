"""What is looked up, and where it is among those that are searched."""

import shutil

import numpy as np
import pytest

from care_jax.command_line import UsageError
from care_jax.data import DataError
from care_jax.embed import image_set, queries
from tests.saved_clouds import PIECES, write_pdb


@pytest.fixture
def bank(saved_clouds):
    return image_set.clouds_below(saved_clouds.structures, saved_clouds.config)


def test_a_number_is_that_cloud(bank, saved_clouds):
    row, points = queries.find("7", bank, saved_clouds.config, side=0)
    np.testing.assert_array_equal(points, bank.examples.pixels[7])
    assert row == 7 and points.shape == (12, 4)
    told = rf"^cloud 99: there is no such file, and {PIECES} clouds of .* end at {PIECES - 1}$"
    with pytest.raises(UsageError, match=told):
        queries.find("99", bank, saved_clouds.config, side=0)


def test_a_structure_is_its_first_piece_and_found_by_its_points(bank, saved_clouds, tmp_path):
    copied = shutil.copy(saved_clouds.structures / "p3.pdb", tmp_path / "of another name.ent")
    row, points = queries.find(str(copied), bank, saved_clouds.config, side=0)
    assert bank.examples.names[row] == "p3.pdb:A residues 1-8"
    np.testing.assert_array_equal(points, bank.examples.pixels[row])
    assert points[:, 3].tolist() == 8 * [1] + 4 * [0]
    write_pdb(tmp_path / "new.pdb", 9, seed=77)
    row, points = queries.find(str(tmp_path / "new.pdb"), bank, saved_clouds.config, side=0)
    assert row == -1 and points[:, 3].sum() == 8


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.pdb", None, "x.pdb can't be used: no file, or a link to nowhere"),
        ("x.pdb", "", "x.pdb can't be used: empty"),
        ("x.cif.gz", "text", "x.cif.gz can't be used: damaged gzip"),
        ("x.cif", "no structure", "x.cif can't be used: not readable as mmCIF"),
        ("x.jpg", "", "x.jpg is no protein structure by its name, which ends in one of .pdb, "),
        ("short.pdb", 7, r"short.pdb can't be used: no chain of at least 8 residues \(.*1 of fewer than 8 residues"),
    ],
)
def test_what_holds_no_structure_is_one_line(name, content, told, bank, saved_clouds, tmp_path):
    if isinstance(content, int):
        write_pdb(tmp_path / name, content, seed=0)
    elif content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=told) as refused:
        queries.find(str(tmp_path / name), bank, saved_clouds.config, side=0)
    assert "\n" not in str(refused.value)
