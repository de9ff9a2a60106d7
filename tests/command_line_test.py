"""Any text for any flag, and any file for --config: it parses, or it is one line on standard error and status 2."""

import contextlib
import io
import logging
import os
import re
import sys
import types

import jax
import pytest
from absl import flags
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ml_collections import config_flags

from care_jax.command_line import fail, parse_flags, say, user_errors
from care_jax.configs import base
from care_jax.devices import sharding
from care_jax.experiment import build
from care_jax.experiment.config import ConfigError, leaves
from care_jax.experiment.settings import CHOSEN

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DIGITS = os.path.join(ROOT, "configs", "digits.py")
LEAVES = sorted(leaves(base.get_config()))
SECTIONS = sorted({name.rpartition(".")[0] for name in LEAVES} - {""})
MESH = sharding.make_mesh(jax.devices()[:1])
# What an argument of a process can hold: no NUL; bytes that are no UTF-8 come as lone surrogates.
TEXT = st.text(st.characters(exclude_characters="\0"), max_size=12)
QUICK = settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))


# How ml_collections loads a file, as long as Python has that.
pytestmark = pytest.mark.filterwarnings(r"ignore:the load_module\(\) method:DeprecationWarning")


def parse(*arguments, config=f"--config={DIGITS}"):
    """(the configuration, "") of a command line, or (None, the line it was refused with)."""
    argv = ["care_jax", *([config] if config else []), *arguments]
    values = flags.FlagValues()
    before, sys.argv = sys.argv, argv  # where ml_collections looks for overrides
    sys.modules.pop("config_config", None)  # the name that it loads every file by
    error = io.StringIO()
    try:
        with contextlib.redirect_stderr(error):
            config_flags.DEFINE_config_file("config", None, "", flag_values=values, lock_config=True)
            flags.DEFINE_string("workdir", None, "", flag_values=values)
            parse_flags(argv, "--config=configs/digits.py", values)
    except SystemExit as left:
        assert left.code == 2
        line = error.getvalue()
        assert line.startswith("care_jax: ")
        assert len(line.splitlines()) == 1, line
        assert line.endswith("\n")
        line.encode()  # can be printed
        return None, line
    finally:
        sys.argv = before
    assert error.getvalue() == ""
    return values["config"].value, ""


def check(config):
    try:
        build.check(config, MESH)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
        return str(error)
    return ""


def test_what_parses_is_taken_over():
    config, _ = parse("--config.train.batch_size=64", "--config.data.mean=(0.1,0.2,0.3)", "--noconfig.data.download")
    assert (config.train.batch_size, config.data.mean, config.data.download) == (64, (0.1, 0.2, 0.3), False)
    assert check(config) == ""


def test_none_takes_a_value_away():
    config, _ = parse("--config.train.num_steps=None", "--config.loss.momentum=0")
    assert config.train.num_steps is None and config.loss.momentum == 0.0
    assert check(parse("--config.train.num_steps=None", "--config.train.num_steps=7")[0]) == ""
    assert parse("--config.train.num_steps=None", "--config.train.num_steps=7")[0].train.num_steps == 7
    assert parse("--config.train.num_steps=7", "--config.train.num_steps=None")[0].train.num_steps is None
    assert parse("--config.data.root=None_of_it")[0].data.root == "None_of_it"
    assert parse("--config.train.num_steps=None", "--config.train.num_steps", "7")[0].train.num_steps == 7
    assert parse("-config.train.num_steps=None")[0].train.num_steps is None
    assert check(parse("--config.seed=None")[0]) == "config.seed is None; give a whole number"
    assert "did you mean 'train'?" in parse("--config.trian.num_steps=None")[1]


def test_a_bundled_configuration_by_its_name(tmp_path, monkeypatch):
    """From any folder; also in one that has a `configs` of its own."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("")
    (tmp_path / "configs" / "base.py").write_text("raise RuntimeError('the wrong one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for config in ("--config=digits", "-config=digits", f"--config={DIGITS}"):
        assert parse(config=config)[0].data.name == "digits"
    assert parse("digits", config="--config")[0].data.name == "digits"
    assert parse("--config=digits", config=f"--config={DIGITS}")[0].data.name == "digits"
    assert "TypeError: get_config() takes 0 positional" in parse("digits:x", config="--config")[1]
    assert re.search(r"digits.py: TypeError: get_config\(\) takes 0 positional", parse(config="--config=digits:x")[1])
    line = parse(config="--config=configs/digits.py")[1]
    assert (
        "--config=configs/digits.py: no such file, nor a bundled configuration; did you mean digits? There are " in line
    )
    assert "there are augself, base, cifar10, " in parse(config="--config=qqqq")[1]
    (tmp_path / "digits").write_text("def get_config():\n    return {}['own']\n")
    assert "digits, line 2: KeyError: 'own'" in parse(config="--config=digits")[1]


TEXTS = ["", "x", "3", "-1", "0.5", "nan", "inf", "1e400", "None", "True", "9" * 30, "9" * 5000, "(", "(((", "()"]
TEXTS += ["(1,2,'", "[1]", "{}", "{'a':1}", "a\nb", "a\u2028b", "\udcff", "--config", "=", "'", '"', "\\", "1;2", "é"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LEAVES, *SECTIONS])
def test_odd_texts_for_every_setting(name):
    for text in TEXTS:
        config, line = parse(f"--config.{name}={text}")
        if config is None:
            assert f"config.{name}" in line
        elif message := check(config):
            assert f"config.{name.rpartition('.')[0]}" in message


@QUICK
@given(st.sampled_from(LEAVES + SECTIONS), TEXT)
def test_any_text_for_any_setting(name, text):
    config, _ = parse(f"--config.{name}={text}")
    if config is not None:
        check(config)


@QUICK
@given(st.lists(st.sampled_from(LEAVES + SECTIONS), max_size=2), TEXT, st.sampled_from(["--", "-", "--no", ""]))
@example([], "", "--")
@example([], "..", "--")
@example(["data.mean"], "[0]", "--")
@example(["data.mean"], "[7]", "--")
@example(["data.mean"], "[x]", "--")
@example(["train.batch_size"], ".x", "--")
@example(["train"], ".lock", "--")
@example([], "__class__", "--")
def test_any_setting_at_all(names, text, dashes):
    for value in ("", "=3", "={}"):
        parse(*(f"{dashes}config.{name}{text}{value}" for name in names or [""]))


@QUICK
@given(st.lists(TEXT.filter(lambda text: not re.match(r"-+(help|flagfile|only)", text)), max_size=3))
def test_any_arguments(arguments):
    parse(*arguments)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--config.train.batchsize=3"], "--config.train.batchsize=3: 'batchsize' .*did you mean 'batch_size'"),
        (["--config.train.batch_size=3.5"], "--config.train.batch_size=3.5"),
        (["--config.train=3"], "--config.train=3: .* not a dict"),
        (["--config.model.pooling=sum"], "pooling=sum: 'pooling' is a setting of .* clouds of points alone, and this"),
        (
            ["--config.augment.invariance.rotation=1"],
            "'rotation' is a setting of configurations of clouds of points alone",
        ),
        (["--config.train.batch_size.x=3"], "--config.train.batch_size.x=3: 'train.batch_size.x' is not a setting"),
        (
            ["--config.data.window_stride=3"],
            "'window_stride' is a setting of .* clouds of points alone, and this one lac",
        ),
        (
            ["--config=configs/proteins.py", "--config.data.image_size=32"],
            "image_size' is a setting of .* of images alone",
        ),
        (["--config.data.mean[7]=3"], r"'--config.data.mean\[7\]=3' is not a setting"),
        (["--config.train..epochs=3"], "'--config.train..epochs=3' is not a setting"),
        (["--config.=3"], "'--config.=3' is not a setting"),
        (["--config.data.mean=(1,2,'"], r"--config.data.mean=\(1,2,'"),
        (["--config.data.root"], "Missing value for flag --config.data.root"),
        (["--workdir"], "Missing value for flag --workdir"),
        (["more"], "'more' is not a flag"),
        (["--confg.seed=3"], "confg.seed"),
    ],
)
def test_the_flag_to_blame_is_named(arguments, told):
    config, line = parse(*arguments)
    assert config is None
    assert re.search(told, line), line


FILES = {
    "syntax": ("def get_config(:\n    pass\n", r"file.py, line 1: SyntaxError"),
    "late syntax": ("x = 1\n\ny = = 2\n", r"file.py, line 3: SyntaxError"),
    "raises": ("\nraise RuntimeError('two\\nlines')\n", r"file.py, line 2: RuntimeError: two lines"),
    "raises inside": ("def get_config():\n    return 1 / 0\n", r"file.py, line 2: ZeroDivisionError: division by zero"),
    "raises a type": ("def get_config():\n    raise TypeError('hm')\n", r"file.py, line 2: TypeError: hm"),
    "raises a key": ("def get_config():\n    return {}['key']\n", r"file.py, line 2: KeyError: 'key'"),
    "raises an attribute": ("def get_config():\n    return (3).x\n", r"file.py, line 2: AttributeError"),
    "raises an OSError": (
        "def get_config():\n    raise OSError(13, 'no')\n",
        r"file.py, line 2: PermissionError",
    ),
    "imports nothing": ("import no_such_module_at_all\n", r"file.py, line 1: ModuleNotFoundError"),
    "without": ("x = 1\n", r"file.py has no get_config\(\)"),
    "no function": ("get_config = 3\n", r"file.py: TypeError: 'int' object is not callable"),
    "an argument": ("def get_config(x):\n    pass\n", r"file.py: TypeError: get_config\(\) missing 1 required"),
    "nothing": ("def get_config():\n    pass\n", r"file.py: get_config\(\) gives nothing; it must return a ConfigDict"),
    "a number": ("def get_config():\n    return 3\n", r"file.py: get_config\(\) gives a value of type int"),
    "a dict": ("def get_config():\n    return {'train': {'epochs': 3}}\n", r"file.py: get_config\(\) gives .* dict"),
    "binary": (b"\x00\x01", r"file.py: (SyntaxError|ValueError)"),
    "latin": (b"x = '\xff'\n", r"file.py.*: SyntaxError"),
    "endless": ("def get_config():\n    return get_config()\n", r"file.py, line 2: RecursionError"),
    "empty": ("", r"file.py has no get_config\(\)"),
}


@pytest.mark.parametrize("case", FILES)
def test_an_unusable_configuration_file(case, tmp_path, caplog):
    content, told = FILES[case]
    path = tmp_path / "file.py"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with caplog.at_level(logging.WARNING):
        config, line = parse(config=f"--config={path}")
    assert config is None
    assert re.search(told, line), line
    assert str(tmp_path) in line
    assert not caplog.records
    # As two words, and with an override.
    assert re.search(told, parse(str(path), config="--config")[1])
    assert parse("--config.train.epochs=3.0", config=f"--config={path}")[0] is None


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("--config=none.py", "none.py"),
        ("--config=configs", "Is a directory: 'configs'"),
        ("--config=", "empty string"),
        ("--config", "Missing value for flag --config"),
        ("", "--config is missing: a configuration file, --config=configs/digits.py for instance"),
        (f"--config={DIGITS}:small", r"digits.py: TypeError: get_config\(\) takes 0 positional"),
        (f"--config={DIGITS}/", r"digits.py/"),
        (f"--config={DIGITS} ", r"digits.py "),
    ],
)
def test_a_mistyped_configuration_file(config, told, monkeypatch):
    monkeypatch.chdir(ROOT)
    parsed, line = parse(config=config)
    assert parsed is None
    assert re.search(told, line), line


def test_an_unreadable_configuration_file(tmp_path, monkeypatch):
    path = tmp_path / "file.py"
    path.write_text("")

    def refuse(self, name):
        raise PermissionError(13, "Permission denied", name)

    # Rather than by its mode, which the superuser may pass over.
    monkeypatch.setattr("importlib.machinery.SourceFileLoader.get_data", refuse)
    config, line = parse(config=f"--config={path}")
    assert config is None
    assert "Permission denied" in line
    assert str(path) in line


def test_a_message_is_one_line_of_bounded_length(capsys):
    with pytest.raises(SystemExit) as left:
        fail("a\nb\u2028c\udcff" + "x" * 10**6)
    assert left.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith(r"care_jax: a b c\udcffxxx")
    assert line.endswith("...\n")
    assert len(line) < 2100


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 3 GiB"), RuntimeError("RESOURCE_EXHAUSTED: x.\ny")])
def test_too_little_memory_is_a_line(error, capsys):
    with pytest.raises(SystemExit) as left, user_errors():
        raise error
    assert left.value.code == 2
    reason = str(error).splitlines()[0].rstrip(".")
    assert f"care_jax: the memory did not suffice ({reason}). What was written before" in capsys.readouterr().err
    with pytest.raises(RuntimeError), user_errors():
        raise RuntimeError("another")


def test_what_is_to_be_chosen_can_be_given(tmp_path):
    """Which needs a type where there is no value."""
    folder = DIGITS.replace("digits.py", "image_folder.py")
    wanted = {name: leaves(base.get_config())[name] for name in CHOSEN}
    given = [f"--config.{name}={value}".replace(" ", "") for name, value in wanted.items()]
    config, _ = parse(*given, config=f"--config={folder}")
    assert {name: leaves(config)[name] for name in CHOSEN} == wanted
    mine = tmp_path / "mine.py"
    lines = "from care_jax.configs import base", "def get_config():", "    config = base.get_config()"
    mine.write_text("\n".join([*lines, "    config.model.width = None", "    return config"]))
    _, line = parse("--config.model.width=3", config=f"--config={mine}")
    assert f"config.model.width is None in {mine}, which gives it no type" in line


def test_a_line_is_written_in_one_piece(monkeypatch):
    """Unbuffered, what another thread says would come between it and its end."""
    written: list[str] = []
    stream = types.SimpleNamespace(write=written.append, flush=lambda: None)
    monkeypatch.setattr(sys, "stderr", stream)
    say("saved")
    with pytest.raises(SystemExit):
        fail("wrong")
    assert [text for text in written if text] == ["care_jax: saved\n", "care_jax: wrong\n"]
