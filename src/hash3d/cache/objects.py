"""What may change inside of an object that a feature depends on, such as an attention processor of your own."""

from collections.abc import Collection, Hashable
from functools import partial
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from .calls import KNOWN, new_name, token

MOST_OBJECTS = 4096
"""Names of values that are kept; after that they are made anew."""
OF_MODULES = {*vars(nn.Module())} - {"training"}
"""Attributes that every module has."""
PLAIN = (bool, int, float, str, list, tuple, dict, torch.Tensor)


_OBJECTS: dict[Hashable, str] = {}
_IDENTITIES: "WeakKeyDictionary[Any, str]" = WeakKeyDictionary()
"""Names of values that equal only themselves, as long as they live."""


def name_of(value: Any) -> str:
    """The name of a value, the same for an equal one; what cannot be hashed has its type's."""
    if not _is_hashable(value) or isinstance(value, frozenset | MethodType):
        return str(type(value).__name__)
    kind: Any = type(value)
    if kind.__hash__ is object.__hash__ and kind.__weakrefoffset__:
        return _IDENTITIES.setdefault(value, new_name())
    if len(_OBJECTS) > MOST_OBJECTS:
        _OBJECTS.clear()
    return _OBJECTS.setdefault(value, new_name())


def look_into(value: Any) -> Any:
    """What an object holds, as a list, a dictionary, a tensor or None."""
    if isinstance(value, MethodType):
        return [name_of(value.__func__), name_of(value.__self__)]
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
        array = np.array(value, subok=True)
        plain = array.dtype.hasobject or array.dtype.kind in "USMmV" or isinstance(array, np.ma.MaskedArray)
        numbers = array.tolist() if plain else torch.as_tensor(array)
        if hasattr(value, "getpalette"):  # A picture of Pillow.
            return [numbers, value.mode, value.getpalette(), value.info.get("transparency")]
        return [numbers, *value.axes] if hasattr(value, "axes") else numbers  # Labels, as of pandas.
    weights = (
        [token(each) for each in (*value.parameters(), *value.buffers())] if isinstance(value, nn.Module) else None
    )
    hashable = _is_hashable(value)
    if isinstance(value, type) or (hashable and type(value).__module__.partition(".")[0] in KNOWN):
        return weights
    items = list(value) if isinstance(value, Collection) and not hashable else []
    if not (found := _attributes(value)) and not hashable and not isinstance(value, Collection):
        raise OverflowError  # Nothing is known of it.
    return [found, items, weights]


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except (TypeError, ValueError):
        return False
    return True


def _attributes(value: Any) -> dict[str, Any]:
    """The attributes of an object and the plain ones of its classes."""
    found = class_attributes(type(value))
    slots = [vars(kind).get("__slots__", ()) for kind in _strange_bases(type(value))]
    for name in [name for own in slots for name in ([own] if isinstance(own, str) else own)]:
        if not name.startswith("__") and hasattr(value, name):
            found[name] = getattr(value, name)
    return found | {name: item for name, item in getattr(value, "__dict__", {}).items() if name not in OF_MODULES}


def class_attributes(kind: type) -> dict[str, Any]:
    """The plain attributes of a class and its bases."""
    own = [item for base in _strange_bases(kind) for item in vars(base).items()]
    return {name: item for name, item in own if isinstance(item, PLAIN) and not name.startswith("__")}


def _strange_bases(kind: type) -> list[type]:
    return [base for base in reversed(kind.__mro__) if base.__module__.partition(".")[0] not in KNOWN]
