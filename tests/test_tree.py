"""The suite mirrors the package: a module's tests are where its name says."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SOURCES = TESTS.parent / "src/hash3d"
TOGETHER = ("cache", "unet")
"""Rooms whose modules are tested as whatever calls them sees them."""
ELSEWHERE = {
    "diffusion/random_weights.py": "cli/test_bench.py",
    "pictures/arrays.py": "pictures/test_framing.py",
    "rendering/base.py": "rendering/test_volume.py",
}
"""Base classes, and helpers of one other module, with the tests that hold them."""
MODULES = [path.relative_to(SOURCES) for path in SOURCES.rglob("*.py") if not path.name.startswith("_")]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_has_its_tests(module):
    systems = module.parent.name == "systems" and module.stem not in ("stages",)
    usual = TESTS / module.parent / f"test_{module.name}"
    expected = TESTS / ELSEWHERE.get(str(module), "systems/test_recipes.py" if systems else usual)
    assert module.parent.name in TOGETHER or expected.is_file(), f"no {expected.relative_to(TESTS)}"
    assert str(module) not in ELSEWHERE or not usual.exists(), f"{module} has tests of its own now"


def test_files_of_tests_are_short():
    long = {str(path): len(path.read_text().splitlines()) for path in TESTS.rglob("*.py")}
    assert {name: lines for name, lines in long.items() if lines > 300} == {}
