"""Parse a command's options, a mistake told in one sentence like any other."""

import io
import re
from contextlib import redirect_stderr
from typing import Any, TypeVar

import tyro

T = TypeVar("T")


def parse_options(kind: type[T], name: str, arguments: list[str], default: T | None = None) -> T:
    """Parse the options of `hash3d NAME` with tyro. Raises `ValueError` with what tyro says of a mistake."""
    said, config = io.StringIO(), (tyro.conf.FlagCreatePairsOff,)
    settings: dict[str, Any] = {} if default is None else {"default": default}
    try:
        with redirect_stderr(said):
            return tyro.cli(kind, prog=f"hash3d {name}", args=arguments, config=config, **settings)
    except SystemExit as stopped:
        if not stopped.code:
            raise
    text = re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue())
    lines = [line.strip("│| ") for line in text.partition("Argument helptext")[0].splitlines()]
    rules = [number for number, line in enumerate(lines) if re.search(r"[─-]{4}\W*$", line)]
    kept = [line for number, line in enumerate(lines) if number > rules[0] and number not in rules] if rules else lines
    kept = [line for line in kept if line and not line.startswith("For full helptext")]
    sentence = " ".join(kept).rstrip(".") or "The options cannot be parsed"
    raise ValueError(f"{sentence}. hash3d {name} --help tells the options.")
