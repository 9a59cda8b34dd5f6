"""The ranges of a recipe's numbers, whether an option or a file gives them: what is outside them is nonsense."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hash3d.schedules import Schedule

LARGEST, LONGEST = 2**40, 2000
"""The largest number where no range is known, and characters of a prompt or name; text encoders read 77 tokens."""
RANGES: dict[str, tuple[float, float]] = {
    "steps": (1, 10**7), "checkpoint_every": (1, 10**7), "seed": (0, 2**61 - 1), "num_steps": (1, 10_000),
    "size": (1, 4096), "reference_size": (1, 4096), "texture_size": (1, 16_384), "resolution": (1, 1024),
    "num_points": (1, 10**7), "max_points": (1, 10**8), "num_candidates": (1, 10**8), "batch_size": (1, 256),
    "samples_per_ray": (1, 16_384), "levels": (1, 64), "log2_entries": (1, 26), "finest_resolution": (1, 2**20),
    "hidden_width": (1, 8192), "hidden_layers": (0, 64), "num_frequencies": (0, 64), "channels": (1, 64),
    "visits_per_cell": (1, 10**6), "active_cells": (1, 10**4), "num_buckets": (1, 2**63), "max_bytes": (1, 2**50),
    "queue_length": (1, 10**6), "pool_length": (1, 10**6), "guidance_scale": (-1e6, 1e6), "cut": (-100, 100),
    "warm_up": (0, 10**7), "reference_elevation": (-90, 90),
}  # fmt: skip
"""Lowest and highest value by the name of a field, also of each value of a schedule."""


def check_numbers(config: Any) -> None:
    """Raise `ValueError` for the first number or text out of range in nested dataclasses, mappings and tuples."""
    for name, value in _values(config, ""):
        if isinstance(value, str) and len(value) > LONGEST:
            raise ValueError(f"Expected {name} of at most {LONGEST} characters, but got {len(value):,}. Shorten it.")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            low, high = RANGES.get(name, (-LARGEST, LARGEST))
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f"Expected {name} between {low:,} and {high:,}, but got {str(value)[:40]}.")


def _values(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """All numbers and texts, each with the nearest field's name; other packages' fields have their class before it."""
    if isinstance(value, Schedule):
        yield from ((name, knot) for _, knot in value.knots)
        yield from (("step of a schedule", step) for step, _ in value.knots)
    elif dataclasses.is_dataclass(value):
        ours = type(value).__module__.startswith("hash3d.")
        for field in dataclasses.fields(value):
            yield from _values(
                getattr(value, field.name), field.name if ours else f"{type(value).__name__}.{field.name}"
            )
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _values(each, str(key))
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from _values(each, name)
    else:
        yield name, str(value) if isinstance(value, Path) else value
