"""What is hidden while a library is imported is there again afterwards, and so is what was loaded before."""

import importlib
import sys

import pytest

from care_jax import extras


def test_a_hidden_package_is_not_there_and_then_is(tmp_path, monkeypatch):
    (tmp_path / "heavy").mkdir()
    (tmp_path / "heavy" / "__init__.py").write_text("")
    (tmp_path / "heavy" / "part.py").write_text("")
    (tmp_path / "library.py").write_text("try:\n    import heavy\nexcept ImportError:\n    heavy = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with extras.hidden("heavy"):
            import library

            assert library.heavy is None and "heavy" not in sys.modules
            with pytest.raises(ModuleNotFoundError, match="heavy is left out"):
                importlib.import_module("heavy.part")
        assert importlib.reload(library).heavy is sys.modules["heavy"]
        with extras.hidden("heavy"):
            assert importlib.reload(library).heavy is sys.modules["heavy"]
    finally:
        for name in ("library", "heavy"):
            sys.modules.pop(name, None)
    with pytest.raises(ZeroDivisionError), extras.hidden("heavy"):
        1 / 0  # noqa: B018
    assert not any(isinstance(finder, extras._Hiding) for finder in sys.meta_path)
