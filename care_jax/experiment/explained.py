"""What each setting means, from where that is written: configs/base.py, `AugmentSpec`, what methods declare."""

import ast
import inspect
import re

from care_jax import methods
from care_jax.augment import AugmentSpec, CloudSpec
from care_jax.experiment.bundled import bundled_configs
from care_jax.experiment.settings import BRANCHES, declared


def meanings() -> dict[str, str]:
    """Setting -> what it means and its unit, empty where nothing is written of it; in the order of configs/base.py."""
    found = {f"augment.{branch}.{name}": text for branch in BRANCHES for name, text in _of_spec().items()}
    for name, setting in declared().items():
        section, _, key = name.partition(".")
        registry = methods.METHODS if section == "loss" else methods.TERMS
        having = [owner for owner, cls in registry.items() if key in cls.settings]
        unset = (
            "" if setting.stated else f"; None: as its paper has it, {setting.default:g}" if _same(key, having) else ""
        )
        found[name] = f"of {', '.join(having)}: {setting.meaning}{unset}"
    return comments(bundled_configs()["base"].read_text()) | found


def _same(key: str, having: list[str]) -> bool:
    owners = [(methods.METHODS | methods.TERMS)[owner].settings[key].default for owner in having]
    return len(set(owners)) == 1 and isinstance(owners[0], (int, float))


def comments(source: str) -> dict[str, str]:
    """The comments of a configuration's assignments, in their order: those above, and the one on the same line.

    >>> comments('''
    ... def get_config():
    ...     config.train = train = ConfigDict()
    ...     # Images a step,
    ...     # over all devices.
    ...     train.batch_size = 256  # at least 2
    ... ''')
    {'train': '', 'train.batch_size': 'Images a step, over all devices. at least 2'}
    """
    lines = source.splitlines()
    sections = {"config": ""}
    found = {}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Assign):
            continue
        names = [_name(target, sections) for target in node.targets]
        setting = next((name for name in names if name), "")
        if not setting:
            continue
        for target in node.targets:
            if isinstance(target, ast.Name):
                sections[target.id] = setting
        above: list[str] = []
        for line in reversed(lines[: node.lineno - 1]):
            if not line.strip().startswith("#"):
                break
            above.insert(0, line.strip().lstrip("# "))
        rest = lines[(node.end_lineno or node.lineno) - 1][node.end_col_offset or 0 :].strip()
        found[setting] = " ".join([*above, rest.lstrip("# ")]).strip()
    return found


def _name(target: ast.expr, sections: dict[str, str]) -> str:
    """`data.mean` of `config.data.mean` or of `data.mean`; empty for a plain variable."""
    words = ast.unparse(target).split(".")
    if len(words) < 2 or words[0] not in sections:
        return ""
    return ".".join(filter(None, [sections[words[0]], *words[1:]]))


def _of_spec() -> dict[str, str]:
    """The Args of `AugmentSpec` and of `CloudSpec`, by name."""
    found: list[tuple[str, str]] = []
    for text in (inspect.getdoc(AugmentSpec) or "", inspect.getdoc(CloudSpec) or ""):
        arguments = re.search(r"^Args:\n(.*?)\n\n", text, re.DOTALL | re.MULTILINE)
        found += re.findall(r"^  (\w+): (.*(?:\n    .*)*)", arguments[1] if arguments else "", re.MULTILINE)
    return {name: " ".join(meaning.split()) for name, meaning in found}
