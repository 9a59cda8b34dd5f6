"""Which guidance branch a call is for, where a scope vouches for its conditioning inputs."""

from itertools import count
from typing import Any

from .calls import View, describe, digest, token
from .messages import MESSAGES, tell

MOST_KNOWN = 512
"""Calls' tensors and scopes that are remembered."""


class Branches:
    """Numbers the branches of a view: the same tensors have the number they had, new ones the first that is free."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._most: dict[str, int] = {}
        """Of each scope the branches of a view."""
        self._told = False

    def number(self, view: View, conditions: dict[str, Any]) -> int:
        """The number of a call's branch in a view that has a scope."""
        scope = digest(describe(view.scope))
        name = digest(scope, describe(conditions, of_tensor=token))
        if name in view.numbers:
            return view.numbers[name]
        taken = view.numbers.values()
        free = next(each for each in count() if each not in taken)
        found = self._numbers.pop(name, None)
        view.numbers[name] = number = free if found is None or found in taken else found
        self._numbers[name] = number
        view.is_guessed |= found != number
        most = self._most.pop(scope, 0)
        self._most[scope] = max(most, number + 1)
        for known in (self._numbers, self._most):
            if len(known) > MOST_KNOWN:
                del known[next(iter(known))]
        return number

    def close(self, view: View) -> None:
        """Tell once if a view that goes had fewer calls than others, and tensors that were never seen."""
        if view.is_guessed and not self._told and len(view.numbers) < self._most.get(digest(describe(view.scope)), 0):
            self._told = True
            tell(MESSAGES["fewer branches"])
