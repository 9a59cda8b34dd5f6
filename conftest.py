"""Checks types and shapes at run time in every module of the package; in place before the package is imported."""

import collections
import dataclasses
import functools
import gc
import inspect
from pathlib import Path

import jaxtyping
from beartype import BeartypeConf
from beartype.claw import beartype_packages

gc.disable()
SOURCE = Path(__file__).parent / "src"
COMPILED = ("_numba", "_triton")
"""Modules that numba and Triton compile, by the start of their names: those stay as they are."""
PATHS = [path for path in SOURCE.rglob("*.py") if not path.name.startswith(("__", *COMPILED))]
NAMES = {".".join(path.relative_to(SOURCE).with_suffix("").parts): path.read_text() for path in PATHS}
SHAPED = [name for name, text in NAMES.items() if "jaxtyping" in text or "TYPE_CHECKING" in text]
"""Modules with shapes, or names that only a static checker sees: jaxtyping takes both, but makes calls slow."""

JAXTYPED = jaxtyping.jaxtyped
CALLS = 10
"""Of a function with shapes, in each test, that are checked: the loops of a test repeat them."""
COUNTED = collections.Counter()


def check_calls(definition, *, typechecker):
    """Check shapes where a definition has some: jaxtyping binds the arguments of each call, which takes long."""
    if inspect.isclass(definition):
        if dataclasses.is_dataclass(definition):
            definition.__init__ = check_calls(definition.__init__, typechecker=typechecker)
        return definition
    if not any(isinstance(each, str) or "jaxtyping." in repr(each) for each in definition.__annotations__.values()):
        return typechecker(definition)
    checked = functools.cache(lambda: JAXTYPED(definition, typechecker=typechecker))

    @functools.wraps(definition)
    def call(*args, **kwargs):
        COUNTED[definition] += 1
        return (definition if COUNTED[definition] > CALLS else checked())(*args, **kwargs)

    return call


jaxtyping.jaxtyped = lambda **settings: functools.partial(check_calls, **settings)
jaxtyping.install_import_hook(SHAPED, "tests.typechecking.check")
beartype_packages(
    list(NAMES.keys() - SHAPED), conf=BeartypeConf(is_pep484_tower=True, violation_type=TypeError, claw_is_pep526=False)
)


def pytest_configure(config):
    """Load the fixtures where tests run: a process that only hands them to workers need not import the package."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        config.pluginmanager.import_plugin("tests.fixtures")


def pytest_collection_finish(session):
    """Keep what is imported by now, which stays, out of the garbage collector's walks."""
    gc.freeze()
    gc.enable()


def pytest_runtest_setup(item):
    """Check the first calls of each test anew."""
    COUNTED.clear()
