"""Files of torch's that are refused: why, in one line, and what to do."""

import fractions
import re

import pytest

from care_jax.models import read_torch_file


def test_what_is_refused_is_named_with_what_to_do(tmp_path):
    torch = pytest.importorskip("torch")
    file = tmp_path / "run.ckpt"
    torch.save({"state_dict": {"weight": torch.ones(2)}, "lr": fractions.Fraction(1, 3)}, file)
    remedy = f'torch.save(torch.load({str(file)!r}, weights_only=False)["state_dict"], "weights.pth")'
    told = (
        "it holds fractions.Fraction beside tensors; only if you trust it, save its weights alone: "
        f"{remedy}, with the key of its state dict"
    )
    with pytest.raises(ValueError, match=rf"^'{file}' can't be loaded .*: {re.escape(told)}$"):
        read_torch_file(file)
    weights = tmp_path / "weights.pth"
    exec(remedy.replace('"weights.pth"', repr(str(weights))), {"torch": torch})
    assert read_torch_file(weights)["weight"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("content", "reason"), [(b"no weights", "Unsupported operand 110"), (b"", "EOFError"), (b"PK\x03\x04", "Pytorch.*")]
)
def test_what_is_no_file_of_torchs_is_told_without_its_advice(content, reason, tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(ValueError, match=rf"without running code from it: {reason}$") as refused:
        read_torch_file(tmp_path / "x.pth")
    assert "\n" not in str(refused.value) and "weights_only" not in str(refused.value)
