"""Parse a command's options, a mistake told in one sentence like any other."""

import io
import re
from contextlib import redirect_stderr
from typing import Any, TypeVar

import tyro

T = TypeVar("T")


def parse_options(kind: type[T], name: str, arguments: list[str], **settings: Any) -> T:
    """Parse the options of `hash3d NAME` with tyro. Raises `ValueError` with what tyro says of a mistake."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(kind, prog=f"hash3d {name}", args=arguments, **settings)
    except SystemExit as stopped:
        if not stopped.code:
            raise
    text = re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue())
    lines = [line.strip("│╭╮╰╯ ") for line in text.splitlines()]
    lines = [line for line in lines if not line.startswith("─ ")]
    rule = next((number for number, line in enumerate(lines) if line.startswith("───")), len(lines))
    sentence = " ".join(line for line in lines[:rule] if line) or "The options cannot be parsed."
    raise ValueError(f"{sentence} hash3d {name} --help tells the options.")
