"""The encoder of a run is the one that its evaluation has; a function's and a library's are what they should be."""

import sys
import types

import numpy as np
import pytest

from care_jax import trained
from care_jax.embed import image_set
from care_jax.measure import encoders, images, torch_encoders


@pytest.mark.slow
@pytest.mark.parametrize("what", encoders.WHAT)
def test_clouds_are_embedded_as_an_evaluation_does(saved_clouds, what):
    model = trained.load(saved_clouds.workdir)
    there, side = images.of_run(model, model.config, None, "test")
    assert side is None
    encoder = encoders.of_run(model, model.config, what=what, batch_size=16)
    assert encoder.clouds and encoder.image_size is None
    drawn = images.draw(there, encoder, num_images=7, seed=0, side=side)
    assert drawn.side == 0 and len(drawn.rows) == 7
    ((clouds, kept),) = drawn.batches(7)
    embedded = image_set.make_embedder(model, model.config, there.skipped)(model.encoder_variables, there.examples)
    expected = embedded.embeddings if what == "embeddings" else embedded.features.numpy()
    assert kept.all()
    np.testing.assert_allclose(encoder.embed(clouds), expected[drawn.rows], atol=1e-5)


@pytest.fixture
def of_code(tmp_path, monkeypatch):
    """`of_code(source)`: the encoder that is its function `embed`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())

    def make(source: str) -> encoders.Encoder:
        (tmp_path / "embedding.py").write_text(f"import numpy as np\n{source}")
        return encoders.of_function("embedding:embed", 8)

    yield make
    sys.modules.pop("embedding", None)


IMAGES = np.random.default_rng(0).random((8, 8, 8, 3), np.float32)


@pytest.mark.parametrize(
    "body",
    [
        "images.mean((1, 2)) + np.random.default_rng().normal(size=3) * 1e-5",  # rounding
        "(100 + images.mean((1, 2)) * (1 + 1e-5 * images.mean())).astype(np.float32)",  # of other batches
        "np.zeros((len(images), 3))",
        "np.float16(images.mean((1, 2)))",
        "__import__('jax').numpy.asarray(images.mean((1, 2)), 'bfloat16')",
        "np.round(images.mean((1, 2)) * 100).astype(int)",
    ],
)
def test_rounding_is_no_difference_between_rows(of_code, body):
    rows = of_code(f"def embed(images): return {body}").embed(IMAGES)
    assert rows.shape == (8, 3)


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float64", "int32"])
def test_torch_rows_of_any_type_are_taken(of_code, kind):
    torch = pytest.importorskip("torch")
    rows = of_code(
        "import torch\n"
        f"def embed(images): return (256 * torch.from_numpy(images).mean((1, 2))).round().to(torch.{kind})"
    ).embed(IMAGES)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, (256 * torch.from_numpy(IMAGES).mean((1, 2))).round())  # exact in bfloat16


def test_a_function_that_changes_its_images_gets_copies_and_is_checked_once(of_code, capsys):
    embed = of_code(
        "calls = []\ndef embed(images):\n    calls.append(len(images)); images -= 0.5; return images.mean((1, 2))"
    ).embed
    rows = embed(IMAGES.copy())
    np.testing.assert_array_equal(embed(IMAGES.copy()), rows)
    assert sys.modules["embedding"].calls == [8, 8, 8, 8]
    alone = of_code("").embed
    capsys.readouterr()
    np.testing.assert_allclose(alone(IMAGES[:1].copy()), rows[:1])
    assert "a batch of one image does not tell whether a row depends on its image alone" in capsys.readouterr().err


@pytest.mark.parametrize("given", [True, False])
def test_torchvisions_weights_come_with_its_transform_of_the_input(given, tmp_path, monkeypatch, capsys):
    torch = pytest.importorskip("torch")
    module = torch.nn.Conv2d(3, 2, 1)
    module.transform_input = False
    torch.save(module.state_dict(), tmp_path / "x.pth")
    network = torch_encoders._Network(module, (8, 8), (0.5,) * 3, (0.5,) * 3, 1.0, "fc")
    monkeypatch.setattr(torch_encoders, "_torchvision", lambda named, name: network)
    monkeypatch.setattr(torch_encoders, "_import", lambda library, named: sys.modules[library])
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    torch_encoders.of_model("torchvision:inception_v3", weights=tmp_path / "x.pth" if given else None)
    assert module.transform_input is given
    assert ("its transform_input is on" in capsys.readouterr().err) is given
