"""Where our models are, and checks of the configurations of others' before anything is built from them."""

import math
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from .files import read_json

LARGEST_FILE, LARGEST_NUMBER = 2**20, 2**20
"""Bytes of a configuration, and the largest number in it: the widest model has some 50,000 of anything."""
RUNS_CODE = ("auto_map", "custom_pipelines", "quantization_config")
"""Entries by which transformers or diffusers may import what a file names."""


def embedded_folder(name: str) -> Path:
    """Return the folder of a model that ships with the package."""
    return Path(str(resources.files("hash3d"))) / "assets" / name


def read_configuration(path: Path) -> dict[str, Any]:
    """Read a JSON object of sane numbers that names no code. Raises `ValueError` with one sentence that says where."""
    value = read_json(path, LARGEST_FILE)
    for name, each in _entries(value):
        if isinstance(each, int | float) and not (math.isfinite(each) and abs(each) <= LARGEST_NUMBER):
            raise ValueError(f"Expected numbers up to {LARGEST_NUMBER:,} in {path}, but {name} is {str(each)[:30]}.")
        kernels = name.endswith("attn_implementation") and "/" in str(each)
        if (name in RUNS_CODE and each) or kernels:
            raise ValueError(f"Expected {path} to name no code, but it has {name}. Convert the model without it.")
    return value


def expect_plain_files(folder: Path) -> None:
    """Raise `ValueError` if a folder holds a pipe, a socket or a device, for which reading may wait for ever."""
    for path in folder.glob("*"):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ValueError(f"Expected files and folders, but {path} is neither. Remove it.")


def _entries(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All values of nested objects and lists, each with the nearest name above it."""
    yield name, value
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _entries(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from _entries(each, name)


def expect_depth(config: dict[str, Any], count: int) -> None:
    """Raise `ValueError` if a configuration has more layers than `count` tensors can fill."""
    depth = max((len(value) for name, value in config.items() if isinstance(value, list)), default=1)
    for name, value in config.items():
        if "layers" in name:
            numbers = [abs(each) for _, each in _entries(value) if isinstance(each, int)]
            depth *= max([1, *numbers])
    if depth > count:
        raise ValueError(f"its configuration has {depth:,} layers, but its weights have {count} tensors.")
