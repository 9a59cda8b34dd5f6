"""Checks shapes and types at run time in every module of the package; in place before the package is imported."""

from pathlib import Path

from jaxtyping import install_import_hook

SOURCE = Path(__file__).parent / "src"
COMPILED = ("_numba", "_triton")
"""Modules that numba and Triton compile, by the start of their names: those stay as they are."""
CHECKED = [path for path in SOURCE.rglob("*.py") if not path.name.startswith(("__", *COMPILED))]

install_import_hook(
    [".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in CHECKED], "tests.typechecking.check"
)
