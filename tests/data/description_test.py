"""What processes compare of their data: the same set has the same text, whatever differs shows where it is."""

import dataclasses
import shutil

import numpy as np
import pytest

from care_jax import data
from care_jax.data import DataSet, Examples
from care_jax.data.files import Listing


def describe(root):
    return data.describe(data.load("image_folder", root=root, image_size=4, resident=False))


def different(one, other):
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


def test_where_the_folder_lies_does_not_matter(folder, tmp_path):
    before = describe(folder)
    assert before == describe(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert all(text.isprintable() for text in (*before, *before.values()))


def test_one_image_more_leads_to_its_folder(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "elsewhere")
    shutil.copy(other / "bee" / "3.png", other / "bee" / "4b.png")
    names = different(describe(folder), describe(other))
    assert names[0] == "files in bee" and "files in ant" not in names


def test_a_file_of_another_size_shows(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "elsewhere")
    (other / "ant" / "0.png").write_bytes((other / "ant" / "0.png").read_bytes() + b"\0")
    names = different(describe(folder), describe(other))
    assert names and all(name == "files in ant" or "in their order" in name for name in names)


def test_two_files_that_changed_places_show(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "elsewhere")
    one, two = (other / "ant" / f"{i}.png" for i in (0, 9))
    first, second = one.read_bytes(), two.read_bytes() + b"\0"  # of sizes that differ
    (folder / "ant" / "9.png").write_bytes(second)
    one.write_bytes(second)
    two.write_bytes(first)
    assert different(describe(folder), describe(other))


def listed(names, sizes):
    listing = Listing("images", names, np.array(sizes))
    examples = Examples(np.zeros((1, 4, 4, 3), np.uint8), {})
    return data.describe(DataSet("images", examples, examples, examples, {}, files={"train": listing}))


def test_the_order_of_files_shows_and_so_do_their_names():
    """Index i would mean another image."""
    before = listed(["ant/0.png", "ant/1.png"], [7, 7])
    assert different(before, listed(["ant/1.png", "ant/0.png"], [7, 7])) == ["train files in their order"]
    renamed = listed(["ant/0.png", "ant/2.png"], [7, 7])
    assert different(before, renamed) == ["files in ant", "train files in their order"]


def test_names_that_are_no_text():
    described = listed(["0.png", "\udcff\n/\udcff.png"], [7, 7])
    assert all(text.isprintable() for text in (*described, *described.values()))
    assert "files in the data folder" in described


@pytest.fixture
def digits():
    images = np.random.default_rng(0).integers(0, 255, (6, 4, 4, 3), np.uint8)
    examples = Examples(images, {"class": np.arange(6, dtype=np.int32) % 2, "hue": np.arange(6, dtype=np.int32)})
    return DataSet("digits", examples, examples, examples, {"class": 2, "hue": 6})


@pytest.mark.parametrize("part", ["pretrain", "train", "test"])
def test_each_part_shows(digits, part):
    examples = getattr(digits, part)
    upside_down = dataclasses.replace(digits, **{part: Examples(examples.images[:, ::-1], examples.labels)})
    assert different(data.describe(digits), data.describe(upside_down)) == [f"pixels of the {part} part"]
    flat = dataclasses.replace(digits, **{part: Examples(examples.images.reshape(6, 2, 8, 3), examples.labels)})
    assert different(data.describe(digits), data.describe(flat)) == [f"pixels of the {part} part"]


def test_name_classes_and_number_of_images_show(digits):
    before = data.describe(digits)
    assert different(before, data.describe(dataclasses.replace(digits, name="others"))) == ["data set"]
    other = dataclasses.replace(digits, num_classes={"class": 3, "hue": 6})
    assert different(before, data.describe(other)) == ["numbers of classes"]
    assert before["test part"] == "6 images"


def test_every_other_label_is_as_if_copied(digits):
    labels = np.repeat(np.arange(6, dtype=np.int32), 2)[::2]
    one, two = (
        dataclasses.replace(digits, test=Examples(digits.test.images, {**digits.test.labels, "hue": x}))
        for x in (labels, labels.copy())
    )
    assert data.describe(one) == data.describe(two)


def test_pixels_and_labels_of_sets_without_files(digits):
    images = digits.train.images.copy()
    images[0, 0, 0, 0] += 1
    labels = {name: np.roll(values, 1) for name, values in digits.train.labels.items()}
    before = data.describe(digits)
    other = dataclasses.replace(digits, train=Examples(images, digits.train.labels))
    assert different(before, data.describe(other)) == ["pixels of the train part"]
    other = dataclasses.replace(digits, train=Examples(digits.train.images, labels))
    assert different(before, data.describe(other)) == [f"labels {name!r} of the train part" for name in sorted(labels)]


def test_folders_beyond_count_are_described_together(folder, monkeypatch):
    from care_jax.data import description

    monkeypatch.setattr(description, "_MOST_FOLDERS", 1)
    assert [name for name in describe(folder) if name.startswith("files in")] == ["files in all folders"]
