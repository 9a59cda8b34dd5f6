"""Checks types and shapes at run time in every module of the package; in place before the package is imported."""

from pathlib import Path

from beartype import BeartypeConf
from beartype.claw import beartype_packages
from jaxtyping import install_import_hook

SOURCE = Path(__file__).parent / "src"
COMPILED = ("_numba", "_triton")
"""Modules that numba and Triton compile, by the start of their names: those stay as they are."""
PATHS = [path for path in SOURCE.rglob("*.py") if not path.name.startswith(("__", *COMPILED))]
NAMES = {".".join(path.relative_to(SOURCE).with_suffix("").parts): path.read_text() for path in PATHS}
SHAPED = [name for name, text in NAMES.items() if "jaxtyping" in text or "TYPE_CHECKING" in text]
"""Modules with shapes, or names that only a static checker sees: jaxtyping takes both, but makes calls slow."""

install_import_hook(SHAPED, "tests.typechecking.check")
beartype_packages(list(NAMES.keys() - SHAPED), conf=BeartypeConf(is_pep484_tower=True, claw_is_pep526=False))
