"""Patch methods of a model's modules for a while, and restore them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

Patch = tuple[nn.Module, str, Callable[..., Any]]
"""A module, the name of one of its methods, and the function to call instead."""


@contextmanager
def patched(patches: Sequence[Patch]) -> Iterator[None]:
    """Patch the methods while the block is open. Afterwards each module's own attributes are what they were."""
    before = [(module, name, module.__dict__.get(name)) for module, name, _ in patches]
    for module, name, patch in patches:
        module.__dict__[name] = patch
    try:
        yield
    finally:
        for module, name, method in before:
            if method is None:
                del module.__dict__[name]
            else:
                module.__dict__[name] = method
