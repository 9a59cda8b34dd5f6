"""Recipes as JSON and back: each dataclass becomes an object with its fields and its type as "module:Class".

Reading makes frozen dataclasses alone, of hash3d or of a module that is imported already: a file of somebody else's
imports nothing, and calls nothing but their constructors.
"""

import dataclasses
import importlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

OURS = re.compile(r"hash3d(\.[a-z][a-z0-9_]*)*")
"""Modules that reading may import: the public ones of this package."""


LARGEST = 1e30
"""Of a number in a recipe."""


def to_plain(value: Any) -> Any:
    """A recipe, or a part of one, as plain JSON values.

    A field with `metadata={"later": True}` is left out at its default: runs and rows from before there was one keep
    their digests.
    """
    if dataclasses.is_dataclass(value):
        fields = {
            field.name: to_plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not (field.metadata.get("later") and getattr(value, field.name) == field.default)
        }
        return {"type": f"{type(value).__module__}:{type(value).__qualname__}", **fields}
    if isinstance(value, Path):
        return {"type": "Path", "path": str(value)}
    if isinstance(value, Mapping):
        return {"type": "Mapping", "items": [[name, to_plain(item)] for name, item in value.items()]}
    return [to_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def from_plain(value: Any) -> Any:
    """The inverse of `to_plain`. Raises `ValueError` for what is damaged, or was written by an earlier version."""
    if isinstance(value, dict) and value.get("type") == "Recipe":  # Types had no module then.
        raise ValueError(
            "Expected a recipe of this version of hash3d, but an earlier one, 0.1, wrote it. Run again, or use 0.1."
        )
    try:
        return _read(value)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError) as error:
        raise ValueError(f"The recipe is damaged, or was written by another version of hash3d: {error}.") from error


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_read(item) for item in value)
    if not isinstance(value, dict):
        return value
    name, fields = value["type"], {each: _read(item) for each, item in value.items() if each != "type"}
    if name == "Path":
        return Path(fields["path"])
    if name == "Mapping":
        return dict(fields["items"])
    kind = find_type(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"Expected a part of a recipe, but got the type {str(name)[:60]!r}.")
    try:
        hints = get_type_hints(kind)
    except NameError:  # A dataclass of somebody else's, whose annotations mean nothing outside of its module.
        hints = {}
    for each, part in fields.items():
        if not fits(part, hints.get(each, Any)):
            raise ValueError(f"Expected {each} of {kind.__name__} to be {hints[each]}, but got {str(part)[:60]!r}.")
    return kind(**fields)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value read from JSON is of an annotated type; numbers are finite, and a protocol is any dataclass."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in inner)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = inner[:1] * len(value) if inner[-1] is ... else inner
        return len(value) == len(kinds) and all(map(fits, value, kinds))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(all(map(fits, item, inner)) for item in value.items())
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and -LARGEST < value < LARGEST
    if hint is int:
        return type(value) is int and -LARGEST < value < LARGEST
    if getattr(hint, "_is_protocol", False):
        return dataclasses.is_dataclass(value)
    return isinstance(value, hint) if isinstance(hint, type) and hint is not Any else True


def find_type(name: str) -> type | None:
    """The frozen dataclass "module:Class" of hash3d or of an imported module; None for anything else."""
    module_name, _, class_name = name.partition(":")
    if OURS.fullmatch(module_name):
        try:
            importlib.import_module(module_name)
        except ImportError:
            return None
    elif class_name and module_name not in sys.modules:
        raise ValueError(f"Expected a part of a recipe, but {name} is not imported. Import {module_name} first.")
    found = getattr(sys.modules.get(module_name), class_name, None)
    if not isinstance(found, type) or not dataclasses.is_dataclass(found):
        return None
    if found.__module__ != module_name and not OURS.fullmatch(found.__module__):  # Ours may move, and stay readable.
        return None
    return found if getattr(found, "__dataclass_params__").frozen else None  # noqa: B009


def difference(first: Any, second: Any, name: str = "recipe") -> str | None:
    """The first field in which two recipes differ, as "name: a against b", or None."""
    parts: tuple[Any, ...] = ()
    if type(first) is type(second) and dataclasses.is_dataclass(first):
        parts = tuple(
            (each.name, getattr(first, each.name), getattr(second, each.name)) for each in dataclasses.fields(first)
        )
    elif isinstance(first, Mapping) and isinstance(second, Mapping) and first.keys() == second.keys():
        parts = tuple((each, first[each], second[each]) for each in first)
    for each, mine, other in parts:
        if found := difference(mine, other, each):
            return found
    return None if parts or first == second else f"{name}: {second} against {first}"
