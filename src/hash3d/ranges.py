"""Refuse numbers of a configuration that are out of range."""

import operator
from typing import Any

COMPARISONS = {"above": operator.gt, "at least": operator.ge, "at most": operator.le, "below": operator.lt}


def expect_range(config: Any, names: str, **bounds: float) -> None:
    """Raise `ValueError` unless the fields `names`, separated by spaces, are within `bounds`.

    The bounds are some of above, at_least, at_most and below. Each number of a tuple counts; None is in any range.
    """
    limits = {word.replace("_", " "): bound for word, bound in bounds.items()}
    for name in names.split():
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not all(COMPARISONS[word](number, bound) for word, bound in limits.items()):
                wanted = " and ".join(f"{word} {bound}" for word, bound in limits.items())
                raise ValueError(f"Expected {name} {wanted}, but got {value}.")
