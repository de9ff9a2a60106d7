"""TensorFlow Datasets: mocked ones, and a tiny ImageNet written in both formats that can be met on a disk."""

import dataclasses
import io
import shutil

import numpy as np
import pytest
from PIL import Image

from care_jax import data
from care_jax.data import DataError, record_index, records
from care_jax.data import tfds as loaders
from care_jax.data.files import list_files

tfds = pytest.importorskip("tensorflow_datasets")

CLASSES = 6


@pytest.mark.parametrize(
    ("name", "size", "classes", "pretrain"),
    [("cifar10", 32, 10, 5), ("cifar100", 32, 100, 5), ("stl10", 96, 10, 10)],
)
def test_small_sets(name, size, classes, pretrain):
    with tfds.testing.mock_data(num_examples=5):
        as_stored = data.load(name)
        small = data.load(name, image_size=16)
    assert as_stored.num_classes == {"class": classes}
    assert f"in {classes} classes (0, 1, " in as_stored.description()
    for part, count in (("pretrain", pretrain), ("train", 5), ("test", 5)):
        stored, resized = getattr(as_stored, part).images, getattr(small, part).images
        assert stored.dtype == resized.dtype == np.uint8
        assert stored.shape == (count, size, size, 3)
        assert resized.shape == (count, 16, 16, 3)
        expected = [np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR)) for image in stored]
        assert np.abs(resized.astype(float) - expected).max() <= 1
    for examples in (as_stored.train, as_stored.test):
        assert examples.labels["class"].dtype == np.int32
        assert (examples.labels["class"] < classes).all()
    if name == "stl10":
        assert as_stored.pretrain.labels == {}
    else:
        assert as_stored.pretrain is as_stored.train


def test_unlabelled_images_come_after_the_labelled(monkeypatch):
    def chunks(tf, builder, split, image_size):
        value = {"train": 1, "test": 2, "unlabelled": 3}[split]
        for count in (2, 1):
            yield {"image": np.full((count, 4, 4, 3), value, np.uint8), "label": np.full(count, value % 3)}

    monkeypatch.setattr(loaders, "_chunks", chunks)
    stl10 = data.load("stl10")
    assert stl10.pretrain.images[:, 0, 0, 0].tolist() == [1, 1, 1, 3, 3, 3]
    assert stl10.train.images[:, 0, 0, 0].tolist() == [1, 1, 1]
    assert stl10.test.images[:, 0, 0, 0].tolist() == [2, 2, 2]
    assert stl10.train.labels["class"].tolist() == [1, 1, 1]


def test_mocked_imagenet_stays_encoded():
    with tfds.testing.mock_data(num_examples=4):
        imagenet = data.load("imagenet2012")
    assert not imagenet.train.resident
    assert imagenet.num_classes == {"class": 1000}
    assert imagenet.train.images.read(2)[:3] == b"\xff\xd8\xff"


@pytest.mark.parametrize("name", ["cifar10", "imagenet2012"])
@pytest.mark.parametrize("root", ["a\0b", "\ud800"])
def test_a_root_that_no_folder_has(name, root):
    with pytest.raises(DataError, match=rf"{name} can't be looked for in ") as caught:
        data.load(name, root=root)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("path", ["a\0b", "\ud800"])
def test_a_class_file_that_no_file_has(path):
    with pytest.raises(DataError, match="can't read the class file"):
        loaders.read_class_file(path, ["n01440764"])


def jpeg(value):
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), (value, 0, 0)).save(buffer, "JPEG")
    return io.BytesIO(buffer.getvalue())


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def root(request, tmp_path_factory):
    """A data directory with an ImageNet of 13 + 5 images; image i is of class i mod 6 and as red as 10 i."""
    root = tmp_path_factory.mktemp(request.param)
    info = tfds.builder("imagenet2012", data_dir=root).info
    names = info.features["label"].names

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "imagenet2012"
        VERSION = tfds.core.Version(str(info.version))
        code_path = None  # or checksums of downloads are looked for beside this file

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=info.features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(13), "validation": self._generate_examples(5)}

        def _generate_examples(self, count):
            for i in range(count):
                yield i, {"file_name": f"{i}.JPEG", "image": jpeg(10 * i), "label": names[i % CLASSES]}

    Tiny(data_dir=root, file_format=request.param).download_and_prepare(
        download_config=tfds.download.DownloadConfig(num_shards=2)
    )
    return root


def wordnet_ids():
    return tfds.builder("imagenet2012", data_dir="/nowhere").info.features["label"].names[:CLASSES]


def number(images, index):
    """Which image it is, from its name and from its pixels."""
    named = int(images.name(index).split()[-1].removesuffix(".JPEG"))
    red = np.asarray(Image.open(io.BytesIO(images.read(index))))[..., 0].mean()
    assert abs(red - 10 * named) < 5
    return named


def test_imagenet(root):
    for _ in range(2):  # the second time with the index that the first one left
        imagenet = data.load("imagenet2012", root=root)
        assert (len(imagenet.train), len(imagenet.test)) == (13, 5)
        assert imagenet.pretrain is imagenet.train
        for examples in (imagenet.train, imagenet.test):
            numbers = [number(examples.images, i) for i in range(len(examples))]
            assert sorted(numbers) == list(range(len(examples)))
            assert examples.labels["class"].tolist() == [i % CLASSES for i in numbers]
        assert (root / "imagenet2012" / "5.1.0" / "care_jax-train.npz").exists()


def test_a_changed_imagenet_is_refused(root, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(root, moved)
    (tmp_path / "classes.txt").write_text("\n".join(wordnet_ids()[:3]))
    for classes, path in ((None, tmp_path / "all"), (tmp_path / "classes.txt", tmp_path / "some")):
        data.check_unchanged(data.load("imagenet2012", root=root, class_file=classes), path)
        data.check_unchanged(data.load("imagenet2012", root=moved, class_file=classes), path)
    (tmp_path / "classes.txt").write_text("\n".join(wordnet_ids()[1:4]))
    with pytest.raises(DataError, match=r"of its pretrain part differ|pretrain part has"):
        data.check_unchanged(
            data.load("imagenet2012", root=root, class_file=tmp_path / "classes.txt"), tmp_path / "some"
        )
    imagenet = data.load("imagenet2012", root=moved)
    shard = next(path for path in (moved / "imagenet2012" / "5.1.0").iterdir() if "-train." in path.name)
    with open(shard, "ab") as file:
        file.write(b"x")
    files = {split: list_files(moved, listing.names) for split, listing in imagenet.files.items()}
    with pytest.raises(DataError, match=rf"1 file of another size \(imagenet2012/5.1.0/{shard.name}\)"):
        data.check_unchanged(dataclasses.replace(imagenet, files=files), tmp_path / "all")


@pytest.mark.parametrize("label", [-1, 1000])
def test_labels_of_a_damaged_index(root, tmp_path, label):
    copy = tmp_path / "imagenet2012" / "5.1.0"
    shutil.copytree(root / "imagenet2012" / "5.1.0", copy)
    data.load("imagenet2012", root=tmp_path)
    index = copy / "care_jax-train.npz"
    arrays = dict(np.load(index))
    arrays["labels"][4] = label
    np.savez(index, **arrays)
    with pytest.raises(DataError, match=r"a label outside \[0, 1000\) .* delete .*care_jax-train.npz") as caught:
        data.load("imagenet2012", root=tmp_path)
    assert "\n" not in str(caught.value)


def test_class_file(root, tmp_path):
    ids = wordnet_ids()
    (tmp_path / "classes.txt").write_text(f"{ids[4]}\n\n  {ids[1]}  \r\n{ids[0]}\n")
    imagenet = data.load("imagenet2012", root=root, class_file=tmp_path / "classes.txt")
    assert imagenet.num_classes == {"class": 3}
    assert f"in 3 classes ({ids[4]}, {ids[1]}, {ids[0]})" in imagenet.description()
    for examples, count in ((imagenet.train, 7), (imagenet.test, 3)):
        assert len(examples) == count
        numbers = [number(examples.images, i) for i in range(len(examples))]
        assert examples.labels["class"].tolist() == [{4: 0, 1: 1, 0: 2}[i % CLASSES] for i in numbers]


def test_records_feed_the_pipeline(root):
    imagenet = data.load("imagenet2012", root=root)
    red = {
        int(index): image[..., 0].mean()
        for images, indices, mask in data.batches_in_order(imagenet.test, side=8, batch_size=3)
        for image, index in zip(images[mask], indices[mask], strict=True)
    }
    assert sorted(red) == list(range(5))
    for index, mean in red.items():
        assert abs(mean - 10 * number(imagenet.test.images, index)) < 5


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "can't read the class file .*: No such file"),
        ("", "holds no WordNet ids"),
        ("{0}\ntench\n", "line 2: 'tench' is not a WordNet id"),
        ("{0} goldfish\n", "line 1: .* is not a WordNet id"),
        ("{0}\n{1}\nn99999999\n", "line 3: 'n99999999' is not one of the 1000 classes"),
        ("{0}\n\n{0}\n", "line 3: .* twice"),
    ],
)
def test_class_file_errors(tmp_path, text, told):
    path = tmp_path / "classes.txt"
    if text is not None:
        path.write_text(text.format(*wordnet_ids()))
    with pytest.raises(DataError, match=told) as caught:
        data.load("imagenet2012", root="/nowhere", class_file=path)
    assert "\n" not in str(caught.value)


def test_classes_without_an_example(root, tmp_path):
    names = tfds.builder("imagenet2012", data_dir="/nowhere").info.features["label"].names
    (tmp_path / "classes.txt").write_text(names[500])
    with pytest.raises(DataError, match=r"no example of the classes in .*classes.txt"):
        data.load("imagenet2012", root=root, class_file=tmp_path / "classes.txt")


@pytest.mark.parametrize("name", ["cifar10", "stl10", "imagenet2012"])
def test_missing_data_says_where_and_what_to_do(name, tmp_path, caplog):
    told = (
        rf"^{name} is not prepared in {tmp_path}/{name}/\S+; prepare it with: tfds build {name} --data_dir={tmp_path}"
    )
    with pytest.raises(DataError, match=told) as caught:
        data.load(name, root=tmp_path)
    assert "\n" not in str(caught.value)
    assert ("image-net.org" in str(caught.value)) == (name == "imagenet2012")
    assert not caplog.records


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    def fail(self):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(
        DataError, match=r"cifar10 could not be prepared in .*OSError: no route to host.*tfds build"
    ) as e:
        data.load("cifar10", root=tmp_path, download=True)
    assert "\n" not in str(e.value)
    with pytest.raises(DataError, match="not prepared"):  # and nothing is downloaded unasked
        data.load("cifar10", root=tmp_path)


def test_it_is_prepared_without_being_read(tmp_path, monkeypatch):
    """In turn by the processes of a run, before all of them read it together."""
    calls = []
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", lambda self: calls.append(self.data_dir_root))
    monkeypatch.setattr(loaders, "_chunks", None)
    loaders.prepare("cifar10", tmp_path)
    assert [str(where) for where in calls] == [str(tmp_path)]


def test_labels_that_are_kept_elsewhere_are_said(root, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copy = tmp_path / "data" / "imagenet2012" / "5.1.0"
    shutil.copytree(root / "imagenet2012" / "5.1.0", copy, ignore=shutil.ignore_patterns("*.npz"))
    monkeypatch.setattr(record_index.np, "savez", refusing(copy, np.savez))
    for _ in range(2):
        imagenet = data.load("imagenet2012", root=tmp_path / "data")
        kept = f"; labels are kept in {tmp_path}/cache/care_jax/labels, as {copy} could not be written to"
        assert imagenet.description().endswith(kept)
        numbers = [number(imagenet.train.images, i) for i in range(13)]
        assert imagenet.train.labels["class"].tolist() == [i % CLASSES for i in numbers]
        monkeypatch.setattr(loaders, "read_labels", None)  # the second start needs it no more
        monkeypatch.setattr(records, "read_labels", None)


def refusing(folder, save):
    """As `save`, but for files in this folder."""

    def saved(path, **arrays):
        if path.parent == folder:
            raise PermissionError(13, "Permission denied")
        save(path, **arrays)

    return saved


def test_a_damaged_copy(root, tmp_path):
    copy = tmp_path / "imagenet2012" / "5.1.0"
    copy.mkdir(parents=True)
    for path in (root / "imagenet2012" / "5.1.0").iterdir():
        if "npz" not in path.name:
            (copy / path.name).write_bytes(path.read_bytes()[: -5 if "record" in path.name else None])
    with pytest.raises(DataError, match=r"cut off|can't be read \(") as caught:
        data.load("imagenet2012", root=tmp_path)
    assert "\n" not in str(caught.value)


def test_want_of_memory_is_told_as_such(monkeypatch):
    def chunks(*arguments):
        raise MemoryError

    monkeypatch.setattr(loaders, "_chunks", chunks)
    with pytest.raises(DataError, match=r"^stl10 at image_size 96 does not fit into memory: choose a smaller one$"):
        data.load("stl10", image_size=96)


def test_image_size_must_be_positive():
    with pytest.raises(ValueError, match="image_size"):
        data.load("cifar10", image_size=0)
