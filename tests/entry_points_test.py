"""The last line of defence: every command, every mistake: one line, status 2, never a traceback."""

import gzip
import itertools
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from care_jax import data
from care_jax.devices import sharding
from care_jax.experiment import build
from care_jax.experiment.config import read_config
from care_jax.train.checkpoint import Checkpoints
from care_jax.workdir import check_data, claim, plain
from tests.environment import on_cpus

pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).with_name("entry_points.py")
ROOT = PROGRAM.parents[1]


def _answers(module: str, mistakes: list[list[str]]) -> list[tuple[int, str]]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), module],
        input=json.dumps(mistakes),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=on_cpus(),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _check(module: str, mistakes: dict[str, list[str]]) -> None:
    """Each line names what is wrong: the mistake's key, or a part of it."""
    wrong = []
    for (told, arguments), (status, err) in zip(
        mistakes.items(), _answers(module, list(mistakes.values())), strict=True
    ):
        lines = err.splitlines()
        count = 3 if told == "emptied" else 1  # what is damaged in a checkpoint is said before
        if status != 2 or len(lines) != count or not lines[-1].startswith("care_jax: ") or told not in lines[0]:
            wrong.append(f"{told!r} by {arguments}: status {status}\n{err}")
        elif not lines[0].isprintable():
            wrong.append(f"{told!r}: {lines[0]!r} can't be printed")
    assert not wrong, "\n".join(wrong)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Folders that no run can use, by what is wrong with them, and one that could be."""
    root = tmp_path_factory.mktemp("images")
    digits = data.load("digits", image_size=16).pretrain.images

    def put(folder: str, count: int) -> None:
        (root / folder).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(digits[i]).save(root / folder / f"{i:02d}.png")

    put("good", 40)
    put("other", 39)
    put("single", 1)
    put("mixed/inside", 2)
    shutil.copy(root / "good" / "00.png", root / "mixed")
    (root / "empty").mkdir()
    (root / "broken").mkdir()
    for i in range(4):
        (root / "broken" / f"{i}.png").write_text("no image")
    (root / "a\x1b[31m\nb").mkdir()
    (root / "file").write_text("")
    return root


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory, tiny_config, images) -> Path:
    """Folders of runs that have something wrong with them."""
    root = tmp_path_factory.mktemp("runs")
    config = tiny_config(data__name="image_folder", data__root=str(images / "good"), train__batch_size=16)
    experiment = build.build(config, sharding.make_mesh())
    good = root / "good"
    good.mkdir()
    (good / "config.json").write_text(json.dumps(plain(config)))
    check_data(good, experiment.dataset)
    checkpoints = Checkpoints(good / "checkpoints")
    checkpoints.save(build.make_state(experiment), info={"config": plain(config), "seconds": 1.0})
    checkpoints.close()

    def spoiled(name: str, file: str, content: bytes) -> None:
        shutil.copytree(good, root / name)
        (root / name / file).write_bytes(content)

    spoiled("damaged_data", "data.json.gz", b"no gzip")
    spoiled("other_data", "data.json.gz", gzip.compress(gzip.decompress((good / "data.json.gz").read_bytes())[:-5]))
    shutil.copytree(good, root / "in_use")
    shutil.copytree(good, root / "unsaved")
    shutil.rmtree(root / "unsaved" / "checkpoints")
    shutil.copytree(good, root / "emptied")
    for file in (root / "emptied" / "checkpoints" / "0").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    shutil.copytree(good, root / "unconfigured")
    (root / "unconfigured" / "config.json").unlink()
    (root / "file").write_text("")
    return root


def test_the_launcher(images, workdirs, tmp_path):
    count = itertools.count()

    def run(*arguments: str, config: str = "digits", workdir: Path | str = "") -> list[str]:
        return [f"--config={config}", f"--workdir={workdir or tmp_path / str(next(count))}", *arguments]

    def folder(name: str) -> list[str]:
        return run(f"--config.data.root={images / name}", config="image_folder")

    long = "x" * 300
    _check(
        "care_jax.main",
        {
            "--config is missing": [],
            "--workdir is missing": ["--config=digits"],
            "no such file, nor a bundled": run(config="digit"),
            "did you mean 'seed'": run("--config.sed=3"),
            "did you mean 'batch_size'?": run("--config.train.batchsize=3"),
            "did you mean 'train'?": run("--config.trian.batch_size=3"),
            "--config.train.batch_size=many": run("--config.train.batch_size=many"),
            "--config.train.batch_size=3.5": run("--config.train.batch_size=3.5"),
            "config.equivariance.num_groups is 5": run("--config.equivariance.num_groups=5"),
            "groups of one image have no pairs": run("--config.equivariance.num_groups=128"),
            "config.train.loggers names 'comet'": run("--config.train.loggers=tensorboard,comet"),
            "config.train.loggers is ''": run("--config.train.loggers="),
            "choose one of resnet10": run("--config.model.backbone=vgg"),
            "config.data.mean": run("--config.data.mean=(0.1,)"),
            "crop_scale": run("--config.augment.invariance.crop_scale=(0.5,0.1)"),
            "config.optimizer.learning_rate is -1": run("--config.optimizer.learning_rate=-1"),
            "confg.seed": run("--confg.seed=3"),
            "'digits' is not a flag": run("digits"),
            "config.train.batch_size is 4096": run("--config.train.batch_size=4096"),
            "config.evaluate.monitor names 'knm'; there are knn, ": run("--config.evaluate.monitor=knn,knm"),
            "config.loss.momentum is 0.0, but simclr has none": run("--config.loss.momentum=0"),
            "config.loss.queue_size is 0": run("--config.loss.method=moco", "--config.loss.queue_size=0"),
            "config.model.init_from is ''": run("--config.model.init_from="),
            "config.model.init_from=none.pth can't be read": run("--config.model.init_from=none.pth"),
            "config.data.root has no value": run(config="image_folder"),
            "can't read the class file": run("--config.data.class_file=none.txt", config="imagenet100"),
            "config.data.class_file is ''": run("--config.data.class_file=", config="imagenet100"),
            "config.data.root=gs://bucket is an address": [*folder("x")[:2], "--config.data.root=gs://bucket"],
            "--workdir=gs://bucket/run is an address": run(workdir="gs://bucket/run"),
            "--workdir=~no_such_user/run": run(workdir="~no_such_user/run"),
            f"{workdirs / 'file'}": run(workdir=workdirs / "file"),
            f"{workdirs / 'file' / 'run'}": run(workdir=workdirs / "file" / "run"),
            "xxx": run(workdir=tmp_path / long),
            "/proc/none": run(workdir="/proc/none/run"),
            f"{images / 'none'}": folder("none"),
            f"{images / 'file'}": folder("file"),
            f"{images / 'empty'}": folder("empty"),
            "single": folder("single"),
            "holds both images and folders": folder("mixed"),
            "cannot be decoded": folder("broken"),
            r"a\x1b[31m b": folder("a\x1b[31m\nb"),
            "xxxx": folder(long),
            "tfds build cifar10": run(f"--config.data.root={tmp_path / 'none'}", config="cifar10"),
            "other settings": run(workdir=workdirs / "good"),
            "--coordinator_address is missing": run("--process_id=0"),
            "--process_id=3": run("--coordinator_address=localhost:1", "--num_processes=2", "--process_id=3"),
            "give host:port": run("--coordinator_address=localhost", "--num_processes=2", "--process_id=0"),
        },
    )
    assert not list(tmp_path.glob("*/checkpoints/*"))
    assert not (ROOT / "gs:").exists() and not (ROOT / "~no_such_user").exists()


def test_evaluating_again(images, workdirs, tmp_path):
    def run(name: str, *arguments: str) -> list[str]:
        return [f"--workdir={workdirs / name}", *arguments]

    with claim(
        workdirs / "in_use", read_config(workdirs / "in_use")
    ):  # opening it would clear away what is being saved
        _check(
            "care_jax.evaluate",
            {
                "--workdir is missing": [],
                "Missing value for flag --workdir": ["--workdir"],
                "--workdir=gs://b is an address": ["--workdir=gs://b"],
                "must be the folder of a run": run("none"),
                f"{workdirs / 'file'}": run("file"),
                "no checkpoint of step 7": run("good", "--step=7"),
                "give a step, 'best'": run("good", "--step=x"),
                "no checkpoint of this run was ranked": run("good", "--step=best"),
                "not config.seed: 0 -> 1": run("good", "--config.seed=1"),
                "did you mean 'knn_k'": run("good", "--config.evaluate.knnk=1"),
                "config.evaluate.knn_k is 0": run("good", "--config.evaluate.knn_k=0"),
                f"{images / 'none'}": run("good", f"--config.data.root={images / 'none'}"),
                "changed since": run("good", f"--config.data.root={images / 'other'}"),
                "damaged_data": run("damaged_data"),
                "other_data": run("other_data"),
                "is in use": run("in_use"),
                "no checkpoint in": run("unsaved"),
                "emptied": run("emptied"),
                "'more' is one word too many": [str(workdirs / "good"), "more"],
                "--out=x.json is for --on": run("good", "--out=x.json"),
                "config.evaluate.label_fractions is 0": run("good", "--config.evaluate.label_fractions=(0.0,)"),
                "choose one of crop_flip, none": run("good", "--config.evaluate.finetune.augmentation=color"),
                "--on=cifar11 is no data set": run("good", "--on=cifar11"),
                "--on=gs://bucket is an address": run("good", "--on=gs://bucket"),
                "is not the folder of a run": run("none", "--on=digits"),
                "config.data.root has no value": run("good", "--on=image_folder"),
                "tfds build cifar10": run("good", "--on=cifar10", f"--config.data.root={tmp_path / 'none'}"),
                f"{images / 'empty'}": run("good", f"--on={images / 'empty'}"),
                "only config.evaluate.*": run("good", "--on=digits", "--config.model.width=3"),
                "--out=/proc/none/x.json": run("good", "--on=digits", "--out=/proc/none/x.json"),
            },
        )
    assert not list(workdirs.glob("*/summary.json"))  # of the newest, say, where the best was asked for


def test_what_is_taken_out_of_a_run(images, workdirs, tmp_path):
    good, out = str(workdirs / "good"), f"--out={tmp_path / 'x.npy'}"
    shared = {
        "the folder of a run is missing: care-jax": [],
        "none is not the folder of a run": [str(workdirs / "none")],
        "unsaved holds no checkpoint yet": [str(workdirs / "unsaved"), "1", out],
        "--step=x: give a step": [good, "1", out, "--step=x"],
        "gs://b is an address": ["gs://b", out],
    }
    embed = {
        "--out is missing": [good],
        "give a file that ends in .npy or .parquet": [good, f"--out={tmp_path / 'x.txt'}"],
        "can't write there": [good, "--out=/proc/none/x.npy"],
        "'more' is one word too many": [good, out, "more"],
        "--part=all": [good, out, "--part=all"],
        "can't look into": [good, out, f"--images={images / 'none'}"],
        "not config.seed": [good, out, "--config.seed=5"],
        "can't be used": [str(workdirs / "emptied"), out],
    }
    neighbours = {
        "something is missing: care-jax neighbours": [good],
        "'blur' is none of hue": [good, "1", "--changes=blur"],
        "there is no such file": [good, "1000", f"--out={tmp_path / 'x.png'}"],
    }
    flax = [out, "--to=flax"]
    export = {
        "--out is missing": [good],
        "--to is missing: choose one of torch": [good, out],
        "--to=onnx: choose one of": [good, out, "--to=onnx"],
        "can't write there": [good, "--to=flax", "--out=/proc/none/x"],
        "it is a folder": [good, "--to=flax", f"--out={tmp_path}"],
        "'more' is one word too many": [good, *flax, "more"],
        "not config.seed": [good, *flax, "--config.seed=5"],
        "can't be used": [str(workdirs / "emptied"), *flax],
    }
    alone = {told: words[:1] + words[2:] if "1" in words else words for told, words in shared.items()}
    _check("care_jax.embed", alone | embed)
    _check("care_jax.export", alone | export)
    _check("care_jax.neighbours", shared | neighbours)
    assert not list(tmp_path.iterdir())


def test_what_it_costs(images):
    def cost(*arguments: str, config: str = "digits", topology: str = "cpu") -> list[str]:
        return [f"--config={config}", f"--topology={topology}", *arguments]

    def on(topology: str) -> list[str]:
        return cost(topology=topology)

    def folder(name: str) -> list[str]:
        return cost(f"--config.data.root={images / name}", config="image_folder")

    _check(
        "care_jax.cost",
        {
            "--config is missing": ["--topology=cpu"],
            "--topology is missing": ["--config=digits"],
            "--topology=v99:2x2: give cpu, cpu:8": on("v99:2x2"),
            "--topology=v5e: give the chips": on("v5e"),
            "--topology=h100:x: give a number of devices": on("h100:x"),
            "--topology=gpu: JAX finds no GPU": on("gpu"),
            "--topology=cpu:9: JAX finds 1": on("cpu:9"),
            "no such file, nor a bundled": cost(config="digit"),
            "did you mean 'batch_size'?": cost("--config.train.batchsize=3"),
            "config.equivariance.num_groups is 5": cost("--config.equivariance.num_groups=5"),
            "config.train.batch_size is 4096": cost("--config.train.batch_size=4096"),
            "give --num_examples=10000": cost(config="image_folder"),
            f"can't count the images in {images / 'none'}": folder("none"),
            "holds both images and folders": folder("mixed"),
            "--config.data.root=gs://b is an address": cost("--config.data.root=gs://b", config="image_folder"),
            "--json=/proc/none/x.json": cost("--json=/proc/none/x.json"),
            "effort": cost("--effort=3"),
            "'more' is not a flag": cost("more"),
            "confg.seed": cost("--confg.seed=3"),
        },
    )


@pytest.mark.skipif(find_spec("libtpu") is None, reason="libtpu is for x86-64 Linux")
def test_what_it_costs_on_a_tpu():
    few = ["--config.train.batch_size=126", "--config.equivariance.num_groups=2"]
    _check(
        "care_jax.cost",
        {
            "--topology=v5e:0x0: the compiler refuses it": ["--config=digits", "--topology=v5e:0x0"],
            "--measure: a TPU v5 lite is not in this machine": ["--config=digits", "--topology=v5e:2x2", "--measure"],
            "4 devices do not divide": ["--config=digits", "--topology=v5e:2x2", *few],
        },
    )


@pytest.mark.parametrize("name", ["care_vs_simclr", "benchmark", "share_map"])
def test_the_experiments(name, workdirs, tmp_path):
    workdir = f"--workdir={tmp_path}"
    shared = {
        "--workdir=gs://b is an address": ["--workdir=gs://b"],
        "config.loss.momentum is 0.5": [workdir, "--config.loss.momentum=0.5", "--seeds=1"],
        "no such file": [workdir, "--config=none.py"],
        "seeds": [workdir, "--seeds=0"],
        "--jobs=1000 is more than the": [workdir, "--jobs=1000"],
        "--reuse=gs://b is an address": [workdir, "--reuse=gs://b"],
    }
    own = {
        "care_vs_simclr": {
            "--weights=a": [workdir, "--weights=a"],
            "--only=a is no row; there are simclr, care": [workdir, "--only=a"],
            "weight": [workdir, "--weights=-1"],
            f"--reuse={tmp_path} has no finished run": [workdir, f"--reuse={tmp_path}"],
        },
        "share_map": {
            "--kinds=hue is no kind": [workdir, "--kinds=hue"],
            "--images=3": [workdir, "--images=3"],
            "--images=a: give whole": [workdir, "--images=a"],
            "--dimensions=0": [workdir, "--dimensions=0"],
            "config.model.head_size is 1": [workdir, "--dimensions=1"],
        },
        "benchmark": {
            "--only=a is no method": [workdir, "--only=a"],
            "--chosen_by=knn is no measure": [workdir, "--chosen_by=knn"],
            "--chosen_by=wahba_mean is no measure": [workdir, "--chosen_by=wahba_mean"],
        },
    }
    _check(f"experiments.{name}", shared | own[name])


def test_a_sweep(tmp_path):
    def sweep(*arguments: str) -> list[str]:
        return ["--config=digits", f"--workdir={tmp_path}", *arguments]

    def setting(text: str) -> list[str]:
        return sweep("--set", text)

    _check(
        "care_jax.sweep",
        {
            "--config is missing": [f"--workdir={tmp_path}"],
            "--workdir is missing": ["--config=digits"],
            "--workdir=gs://b is an address": ["--config=digits", "--workdir=gs://b"],
            "did you mean 'equivariance.weight'": setting("equivariance.wieght=1"),
            "--set equivariance.weight=a: a is not a number": setting("equivariance.weight=a"),
            "config.equivariance.weight is -1": setting("equivariance.weight=0,-1"),
            "is given by --set and by --config.equivariance.weight": [
                *setting("equivariance.weight=0"),
                "--config.equivariance.weight=1",
            ],
            "--jobs=1000 is more than the": sweep("--jobs=1000"),
            "'equivariance.weight=1' is not a flag": sweep("--set", "seed=1", "equivariance.weight=1"),
        },
    )
    assert not list(tmp_path.iterdir())


def test_a_comparison(workdirs, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{")
    out = f"--out={tmp_path / 'page.html'}"
    _check(
        "care_jax.compare",
        {
            "the folders of runs are missing": [out],
            f"{tmp_path / 'none'}: there is no such folder": [out, str(tmp_path / "none"), str(workdirs / "good")],
            f"no run in {tmp_path / 'empty'}": [out, str(tmp_path / "empty")],
            f"{tmp_path / 'damaged'} has no settings": [out, str(tmp_path / "damaged")],
            "--out=summary.json: give the name of a page": ["--out=summary.json", str(workdirs / "good")],
            "--out=/proc/none/x.html: can't write there": ["--out=/proc/none/x.html", str(workdirs / "good")],
            "--measures=knn is in no summary.json here": [out, "--measures=knn", str(workdirs / "good")],
            "--config.seed=3: runs are compared as they are": [out, "--config.seed=3", str(workdirs / "good")],
            "ot": [out, "--ot=x.html", str(workdirs / "good")],
        },
    )
    assert not (tmp_path / "page.html").exists()


def test_measuring(workdirs, images, tmp_path):
    good = str(workdirs / "good")
    (tmp_path / "few.npy").write_bytes(b"no array")

    def measure(*arguments: str) -> list[str]:
        return [*arguments, f"--out={tmp_path / 'out'}"]

    pair = f"--embeddings={tmp_path / 'few.npy'},{tmp_path / 'none.npy'}"
    _check(
        "care_jax.measure",
        {
            "the folder of a run is missing": measure(),
            "--function is of no run": measure(good, "--function=os:getcwd"),
            f"{tmp_path / 'none'} is not the folder of a run": measure(str(tmp_path / "none")),
            "holds no checkpoint yet": measure(str(workdirs / "unsaved")),
            "few.npy": measure(pair),
            "--augmentations: 'hues' is not one": measure(good, "--augmentations=hues"),
            "--strengths: 'a' is no number": measure(good, "--augmentations=hue", "--strengths=a"),
            "--num_images=3": measure(good, "--num_images=3"),
            "--function=os:nothing": measure("--function=os:nothing", "--data=digits"),
            "--model=timm:none": measure("--model=timm:none", "--data=digits"),
            "--ot": measure(good, "--ot=x"),
        },
    )
    assert not (tmp_path / "out").exists()
