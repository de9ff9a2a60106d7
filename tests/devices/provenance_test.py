"""The programs that numbers come from, and what is said where they have changed."""

from care_jax.devices import provenance


def test_the_programs_are_those_that_numbers_come_from():
    programs = provenance.found()
    assert {"care_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "Python"} <= programs.keys()
    assert "None" not in (programs[name] for name in provenance._JAX_SETTINGS if name != "jax_default_matmul_precision")


def test_flags_that_one_host_may_have_for_itself_are_not_compared(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=here --xla_b=1 --xla_a=2 --xla_force_host_platform_device_count=2")
    assert provenance.found()["XLA_FLAGS"] == "--xla_a=2 --xla_b=1"


def test_an_edited_file_is_another_program(monkeypatch, tmp_path):
    (tmp_path / "train").mkdir()
    file = tmp_path / "train" / "provenance.py"
    file.write_text("a = 1\n")
    monkeypatch.setattr(provenance, "__file__", str(file))
    before = provenance._sources()
    assert provenance._sources() == before
    file.write_text("a = 2\n")
    assert provenance._sources() != before


def test_what_has_changed_is_named(monkeypatch):
    now = {"jax": "2", "numpy": "1", "XLA_FLAGS": "--a"}
    monkeypatch.setattr(provenance, "found", lambda: now)
    assert provenance.changed(None) == provenance.changed(dict(now)) == provenance.changed({"gone": "1"}) == []
    assert provenance.changed(now | {"jax": "1", "XLA_FLAGS": "empty"}) == ["jax 1 -> 2", "XLA_FLAGS empty -> --a"]
