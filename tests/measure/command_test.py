"""The whole command: encoders whose numbers are known, a run, and mistakes, each one line and status 2."""

import math
import sys
from html.parser import HTMLParser

import jax
import numpy as np
import pytest

from care_jax import augment, trained
from care_jax.embed import image_set
from care_jax.experiment.inputs import augment_spec
from care_jax.measure import table
from tests import browser


def test_an_encoder_that_turns_with_the_hue_is_explained_by_a_rotation(measure, capsys):
    found = measure("--function=encoders:hue", "--data=digits", "--augmentations=hue", "--num_images=60")
    share, hue = found["rotation_share_explained"], found["augmentations"]["hue"]
    assert share["n"] == 60 and share["low"] == pytest.approx(1.0, abs=1e-4) == share["high"]
    assert [entry["strength"] for entry in hue["strengths"]] == [0.05, 0.1, 0.2, 0.35, 0.5]
    for entry in hue["strengths"]:
        assert entry["rotation_share_explained"]["mean"] == pytest.approx(1.0, abs=1e-4)
        assert entry["permuted_share_explained"]["mean"] < 0.9
        degrees = [abs((360 * k * entry["strength"] + 180) % 360 - 180) for k in (1, 2)]
        np.testing.assert_allclose(entry["angles"]["largest"], sorted(degrees, reverse=True), atol=0.2)
        assert entry["follow_prediction"]["hit_at_1"]["mean"] > 0.9
    assert hue["composition"]["strengths"] == [0.1, 0.2] and hue["composition"]["error"]["mean"] < 1e-3
    assert set(hue["parameter_explained"]) == {"linear", "mlp"}
    assert found["encoder"]["name"] == "encoders:hue" and len(found["encoder"]["module_sha256"]) == 64
    assert found["images"]["taken"] == 60 and found["embeddings"] == {"n": 60, "d": 4} and "jax" in found["versions"]
    said = capsys.readouterr()
    assert "gets images of 16 x 16 pixels (its attribute image_size)" in said.err
    assert "60 of the 359 images of the test part of digits, drawn with seed 0" in said.err
    header, *rows, last = said.out.splitlines()
    assert header.split()[:3] == ["augmentation", "strength", "rotation"] and len(rows) == 5
    assert last.startswith("rotation_share_explained: 1.000, 95 % 1.000 to 1.000, n = 60")


@pytest.mark.slow
@browser.NEEDED
def test_the_page_in_a_browser(measure, tmp_path):
    measure("--function=encoders:hue", "--data=digits", "--augmentations=hue,blur,crop", "--num_images=40")
    page = (tmp_path / "out" / "measure.html").read_text()
    for width, dark in ((400, True), (1200, False)):
        browser.check(page, tmp_path, width, dark, "rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")


@pytest.mark.slow
def test_noise_is_explained_by_nothing(measure):
    found = measure("--function=encoders:noise", "--image_size=8", "--data=digits", "--augmentations=rotation")
    share = found["rotation_share_explained"]
    assert share["n"] == 359 and share["low"] < 0.0 < share["high"] and share["high"] - share["low"] < 0.1
    assert abs(found["augmentations"]["rotation"]["composition"]["error"]["mean"] - np.sqrt(2)) < 0.1
    assert abs(found["augmentations"]["rotation"]["parameter_explained"]["linear"]["mean"]) < 0.15


def test_embeddings_that_are_all_zero_have_no_composition(measure):
    found = measure("--function=encoders:zero", "--image_size=8", "--data=digits", "--augmentations=rotation")
    assert found["rotation_share_explained"] is None
    assert found["augmentations"]["rotation"]["composition"]["error"] is None


def test_a_file_in_place_of_the_folder_is_told_of_its_flag(measure, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(SystemExit) as left:
        measure("--function=encoders:zero", "--data=digits")
    assert left.value.code == 2 and (tmp_path / "out").read_text() == "mine"
    assert "--out=out: can't write there (File exists)" in capsys.readouterr().err


def test_the_strength_is_read_from_what_the_encoder_sees(measure):
    """The mean of a colour times 1 - strength: a linear map of the strength for one image, but no rotation."""
    found = measure(
        *("--function=encoders:colour", "--image_size=8", "--data=digits"),
        *("--augmentations=brightness", "--strengths=0.25,0.5"),
    )
    brightness = found["augmentations"]["brightness"]
    assert brightness["parameter_explained"]["mlp"]["mean"] > 0.8
    for entry in brightness["strengths"]:
        assert entry["linear_share_explained"]["mean"] == pytest.approx(1.0, abs=1e-6)
        assert abs(entry["rotation_share_explained"]["mean"]) < 1e-3


def test_nothing_moves_where_an_encoder_sees_nothing_of_it(measure, tmp_path, capsys):
    (tmp_path / "blind.py").write_text("def see(images): return images.min((1, 2)) * 0 + images.shape[1]")
    found = measure("--function=blind:see", "--image_size=8", "--data=digits", "--augmentations=blur")
    assert found["rotation_share_explained"] is None
    said = capsys.readouterr()
    assert "nothing moves under blur" in said.err and "rotation_share_explained: nothing moves" in said.out
    assert "Nothing moves under these augmentations" in (tmp_path / "out" / "measure.html").read_text()
    sys.modules.pop("blind")


class _Page(HTMLParser):
    """Tags that are open, and addresses that a browser would fetch."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.pictures = [], [], 0

    def handle_starttag(self, tag, attrs):
        self.pictures += tag == "svg"
        named = dict(attrs)
        self.fetched += [named[name] for name in ("src", "href") if not (named.get(name) or "#").startswith("#")]
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()


def test_two_arrays_are_measured_and_the_page_needs_nothing_else(measure, tmp_path):
    rng = np.random.default_rng(0)
    before = rng.normal(size=(100, 3))
    np.save(tmp_path / "before.npy", before)
    np.save(tmp_path / "after<b>.npy", before[:, [1, 2, 0]])
    found = measure("--embeddings=before.npy,after<b>.npy")
    assert found["rotation_share_explained"]["mean"] == pytest.approx(1.0)
    (entry,) = found["augmentations"]["given"]["strengths"]
    assert entry["strength"] is None and entry["angles"]["largest"] == pytest.approx([120.0])
    assert found["draws"]["numbers"]["wahba_mean"] < 1e-5 and found["draws"]["numbers"]["test_examples"] == 100
    text = (tmp_path / "out" / "measure.html").read_text()
    page = _Page()
    page.feed(text)
    assert not page.open and not page.fetched and page.pictures == 2
    assert "One rotation explains 100 %" in text and "<b>.npy" not in text and "width=device-width" in text


def _saved(folder, before, after):
    np.save(folder / "before.npy", before)
    np.save(folder / "after.npy", after)
    return "--embeddings=before.npy,after.npy"


def test_large_numbers_are_measured(measure, tmp_path):
    """Squares of 1e25 are none in float32."""
    before = np.random.default_rng(0).normal(size=(60, 3))
    for dtype in (np.float32, np.float64):
        found = measure(_saved(tmp_path, (1e25 * before).astype(dtype), (1e25 * before[:, [1, 2, 0]]).astype(dtype)))
        assert found["rotation_share_explained"]["mean"] == pytest.approx(1.0)
        numbers = found["draws"]["numbers"]
        assert numbers["wahba_mean"] < 1e-5 * numbers["displacement_mean"]


def test_what_is_not_known_is_null_in_the_file(measure, tmp_path):
    """A rotation so small that float32's last digits are all of gamma."""
    before, angle = np.random.default_rng(0).normal(size=(60, 2)), 1e-4
    turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    found = measure(_saved(tmp_path, np.float32(before), np.float32(before @ np.transpose(turn))))
    (entry,) = found["augmentations"]["given"]["strengths"]
    assert set(entry["relative_equivariance"]["quantiles"].values()) == {None}
    assert entry["relative_equivariance"]["permuted"]["0.5"] > 0.01
    assert found["draws"]["numbers"]["relative_equivariance_median"] is None
    assert table.rows(found)[1][-4] == "–" and "nan" not in table.text(found)
    exact = measure(_saved(tmp_path, before, before @ np.transpose(turn)))
    assert exact["augmentations"]["given"]["strengths"][0]["relative_equivariance"]["quantiles"]["0.75"] < 1e-6


@pytest.mark.slow
def test_a_run_is_measured_on_any_images(measure, saved_run):
    found = measure(
        *(str(saved_run.workdir), f"--images={saved_run.images}", "--augmentations=hue", "--strengths=0.1,0.3"),
        *("--config.evaluate.num_augmentations=2", "--what=embeddings"),
    )
    assert found["embeddings"] == {"n": 24, "d": 8} and found["encoder"]["steps"] == 3
    numbers = found["draws"]["numbers"]
    assert 0 < numbers["wahba_mean"] <= numbers["displacement_mean"] and numbers["test_examples"] == 24
    assert numbers["rotation_share_explained"] < 1 and {"alignment", "uniformity"} <= numbers.keys()
    assert [entry["strength"] for entry in found["augmentations"]["hue"]["strengths"]] == [0.1, 0.3]
    assert found["config"]["model"]["head_size"] == 8 and len(found["encoder"]["params_sha256"]) == 64
    assert found["draws"]["of"] == "embeddings under draws of the equivariance branch, on all images"


@pytest.mark.slow
def test_the_draws_are_of_the_features_too_where_these_are_asked_for(measure, saved_run):
    given = (str(saved_run.workdir), f"--images={saved_run.images}", "--augmentations=hue", "--strengths=0.1")
    found = measure(*given, "--config.evaluate.num_augmentations=2", "--what=features")
    assert found["draws"]["of"] == "unit features under draws of the equivariance branch, on all images"
    model, settings = trained.load(saved_run.workdir), found["config"]["evaluate"]
    chosen = image_set.below(saved_run.images)
    embedder = image_set.make_embedder(model, model.config, chosen.skipped)
    spec = augment_spec(model.config, "equivariance")
    draws = augment.draw_uniforms(jax.random.key(settings["seed"]), (2,), spec)

    def unit(*given):
        features = np.float64(embedder(model.encoder_variables, chosen.examples, *given).features.numpy())
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    moved = [np.linalg.norm(unit(np.asarray(draw), spec) - unit()) / math.sqrt(24) for draw in draws]
    assert found["draws"]["numbers"]["displacement_mean"] == pytest.approx(np.mean(moved), rel=1e-3)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["--function=encoders:flat", "--image_size=8"],
            "of 128 images it gives float64[128]; give numbers [128, d], a row an image",
        ),
        (["--function=encoders:short", "--image_size=8"], "it gives float64[127, 3]"),
        (["--function=encoders:text", "--image_size=8"], "it gives <U1[128, 1]"),
        (["--function=encoders:infinite", "--image_size=8"], "128 of 128 rows that it gives are not finite"),
        (["--function=encoders:raises", "--image_size=8"], "it raised KeyError: 'wei\\nghts' ("),
        (["--function=encoders:leaps", "--image_size=8"], "its rows have "),
        (["--function=encoders:drops", "--image_size=8"], "other rows when it is called again: is its network in eval"),
        (["--function=encoders:normalises", "--image_size=8"], "other rows in a batch with others: is its network in"),
        (["--function=encoders:sized"], "its attribute image_size is (224, 224); make it a whole number, the side of"),
        (["--function=encoders:hues"], "hues is not in it"),
        (["--function=encoders:number"], "number is no function"),
        (["--function=encoderz:hue"], "there is no module encoderz, neither in this folder nor installed"),
        (["--function=broken:hue"], "broken can't be imported: No module named 'not_there'"),
        (["--function=wrong:hue"], "wrong can't be imported: ZeroDivisionError: division by zero ("),
        (["--function=encoders"], "give package.module:function"),
        (["--function=encoders:hue", "--augmentations=hues"], "did you mean hue?"),
        (["--function=encoders:hue", "--augmentations=jitter"], "'jitter' is one of clouds of points; of images there"),
        (["--function=encoders:hue", "--data=proteins"], "--data=proteins is of clouds of points, and the encoder"),
        (["--function=encoders:hue", "--data=dig"], "--data=dig is no data set"),
        (["--function=encoders:hue", "--images=none"], "say which images"),
        (["--function=encoders:hue", "--part=some"], "--part=some: give one of train, test, pretrain"),
        (["--function=encoders:hue", "--step=3"], "is of no run, and has its own weights: leave --step out"),
        (["somewhere", "--function=encoders:hue"], "leave WORKDIR out"),
        (
            ["--embeddings=a.npy,b.npy", "--num_images=9"],
            "is of two arrays: leave --data, --num_images out",
        ),
        (["--embeddings=a.npy,b.npy", "--images=x"], "--embeddings is of two arrays: leave --images, --data out"),
        (["--model=resnet18"], "give timm:NAME or torchvision:NAME"),
    ],
)
def test_a_mistake_is_one_line(measure, tmp_path, capsys, argv, line):
    (tmp_path / "broken.py").write_text("import not_there")
    (tmp_path / "wrong.py").write_text("1 / 0")
    with pytest.raises(SystemExit) as left:
        measure("--data=digits", *argv)
    assert left.value.code == 2
    said = capsys.readouterr()
    assert line in said.err.splitlines()[-1] and not said.out and "Traceback" not in said.err


def test_images_have_to_be_named(measure, capsys):
    with pytest.raises(SystemExit) as left:
        measure("--function=encoders:hue")
    assert left.value.code == 2 and "say which images: --images=FOLDER, or --data=digits" in capsys.readouterr().err


@pytest.mark.slow
def test_networks_of_timm_and_torchvision(measure, tmp_path, capsys):
    from tests.models.torch_libraries import torch_libraries

    torch, torchvision, _ = torch_libraries()
    few = ("--data=digits", "--num_images=4", "--augmentations=hue", "--strengths=0.3")
    vit = measure("--model=timm:vit_tiny_patch16_224", *few)
    said = capsys.readouterr().err
    assert "random weights, seed 0" in said and "the central 0.9 of the shorter side" in said
    assert "normalised by mean (0.5, 0.5, 0.5)" in said and "features before its classifier (head)" in said
    assert vit["embeddings"] == {"n": 4, "d": 192} and vit["encoder"]["image_size"] == 224

    torch.manual_seed(3)
    network = torchvision.models.resnet18(weights=None, num_classes=7)
    torch.save({"state_dict": {f"module.{name}": x for name, x in network.state_dict().items()}}, tmp_path / "r.pth")
    resnet = measure("--model=torchvision:resnet18", "--weights=r.pth", *few)
    said = capsys.readouterr().err
    assert "120 entries loaded, not used: fc.bias, fc.weight" in said and "random" not in said
    assert "normalised by mean (0.485, 0.456, 0.406)" in said and resnet["embeddings"]["d"] == 512
    for argv, line in {
        ("--model=timm:resnet18.bogus",): "bogus) for resnet18; resnet18 has a1_in1k, ",
        ("--model=torchvision:resnet19",): "torchvision has no such network; did you mean resnet1",
        ("--model=torchvision:resnet34", "--weights=r.pth"): "does not fit torchvision:resnet34: it lacks layer1.2.",
        ("--model=torchvision:resnet18", "--weights=encoders.py"): "is no state dict",
        ("--model=torchvision:resnet18", "--weights=none.pth"): "can't be read: No such file",
    }.items():
        with pytest.raises(SystemExit) as left:
            measure(*argv, *few)
        assert left.value.code == 2 and line in capsys.readouterr().err.splitlines()[-1]
