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
        self._numbers: dict[Any, int] = {}
        self._most: dict[str, int] = {}
        """Of each scope the branches of a view."""
        self._first: dict[str, int] = {}
        """Of a scope the number of the first one, if not 0."""
        self._told = False

    def number(self, view: View, conditions: dict[str, Any]) -> int:
        """The number of a call's branch in a view that has a scope."""
        scope = digest(describe(view.scope))
        name = scope, digest(describe(conditions, of_tensor=token))
        if name in view.numbers:
            return view.numbers[name]
        taken = view.numbers.values()
        free = next(each for each in count(self._first.get(scope, 0)) if each not in taken)
        found = self._numbers.pop(name, None)
        view.numbers[name] = number = free if found is None or found in taken else found
        self._numbers[name] = number
        view.is_guessed |= found != number
        self._most[scope] = max(self._most.pop(scope, 0), len(view.numbers))
        for known in (self._numbers, self._most):
            if len(known) > MOST_KNOWN:
                del known[next(iter(known))]
        return number

    def close(self, view: View) -> None:
        """Begin anew, and tell once, if a view that goes had fewer calls than others, and tensors never seen."""
        scope = digest(describe(view.scope))
        if view.is_guessed and len(view.numbers) < (most := self._most.get(scope, 0)):
            self._first[scope] = self._first.get(scope, 0) + most
            self._numbers = {name: number for name, number in self._numbers.items() if name[0] != scope}
            if not self._told:
                self._told = True
                tell(MESSAGES["fewer branches"])

    def state_dict(self) -> dict[str, list[int]]:
        """Of each scope whose views have several branches: the first one's number, and how many there are."""
        return {scope: [self._first.get(scope, 0), most] for scope, most in self._most.items() if most > 1}

    def load_state_dict(self, state: dict[str, list[int]]) -> None:
        """Give none of the numbers in a state to other tensors: which branch each of them was cannot be known."""
        self._numbers.clear()
        self._most = {scope: int(most) for scope, (_, most) in state.items()}
        self._first = {scope: int(first) + int(most) for scope, (first, most) in state.items()}
