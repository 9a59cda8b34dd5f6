"""Other functions for some modules of a model, for a while: how a model runs differently without being changed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

StandIn = tuple[nn.Module, str, Callable[..., Any]]
"""A module, the name of one of its methods, and what is called in place of it."""


@contextmanager
def replaced(stand_ins: Sequence[StandIn]) -> Iterator[None]:
    """Replace the methods for a while. Afterwards each module's own attributes are what they were."""
    before = [(module, name, module.__dict__.get(name)) for module, name, _ in stand_ins]
    for module, name, stand_in in stand_ins:
        module.__dict__[name] = stand_in
    try:
        yield
    finally:
        for module, name, method in before:
            if method is None:
                del module.__dict__[name]
            else:
                module.__dict__[name] = method
