"""`help()` of a configuration explains each field, in the words that the command line and the site take from it."""

import dataclasses
import inspect
import io
import pkgutil
import re
from contextlib import redirect_stdout
from importlib import import_module

import pytest

import hash3d
from hash3d.cache import GridConfig, GuardConfig, Hash3DConfig
from hash3d.cli.options import find_system, options_of
from hash3d.cli.parsing import parse_options

ROOMS = ("cache", "cameras", "guidance", "meshing", "recipes", "rendering", "representations")
NAMES = [each.name for each in pkgutil.walk_packages(hash3d.__path__, "hash3d.")]
MODULES = [name for name in NAMES if name.split(".")[1] in ROOMS and "._" not in name]
OTHERS = ("LossWeights", "Recipe", "Stage")


def is_configuration(kind):
    named = isinstance(kind, type) and (kind.__name__.endswith("Config") or kind.__name__ in OTHERS)
    return named and dataclasses.is_dataclass(kind)


def find_configurations():
    found = {thing for name in MODULES for thing in vars(import_module(name)).values() if is_configuration(thing)}
    return sorted(found, key=lambda kind: kind.__name__)


def explanations(kind):
    """What the docstrings of a class and of its bases say of each field."""
    sections = [inspect.cleandoc(base.__doc__ or "").partition("Args:")[2] for base in reversed(kind.__mro__)]
    return {name: text for section in sections for name, text in re.findall(r"^    (\w+): (.*)", section, re.M)}


@pytest.mark.parametrize("kind", find_configurations(), ids=lambda kind: kind.__name__)
def test_the_docstring_explains_each_field(kind):
    said = explanations(kind)
    assert [each.name for each in dataclasses.fields(kind) if len(said.get(each.name) or "") < 8] == []


def test_the_command_line_says_the_same():
    said = io.StringIO()
    with redirect_stdout(said), pytest.raises(SystemExit):
        parse_options(options_of(find_system("zero123_gs"), Hash3DConfig()), "generate zero123_gs", ["--help-all"])
    words = " ".join(re.sub(r"\x1b\[[0-9;]*m|│", " ", said.getvalue()).split())
    for text in {**explanations(GuardConfig), **explanations(GridConfig)}.values():
        assert text[:50] in words
