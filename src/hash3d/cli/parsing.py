"""Parse a command's options, a mistake told in one sentence like any other."""

import dataclasses
import io
import re
from contextlib import redirect_stderr
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import tyro

T = TypeVar("T")
SILENT = tyro.conf.arg(help_behavior_hint="")
"""Leaves "(default: None)" out of the help."""
Maybe = Annotated[T | None, tyro.conf.DisallowNone, SILENT]
"""An option that need not be given."""
Advanced = Annotated[T, tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff]
"""An option that --help leaves out and --help-all shows; a flag is followed by True or False."""


def parse_options(kind: type[T], name: str, arguments: list[str], default: T | None = None) -> T:
    """Parse the options of `hash3d NAME` with tyro. Raises `ValueError` with what tyro says of a mistake."""
    said, config = io.StringIO(), (tyro.conf.FlagCreatePairsOff,)
    settings: dict[str, Any] = {} if default is None else {"default": default}
    if "--help-all" in arguments:
        arguments = ["--help"]
    elif {"-h", "--help"} & set(arguments):
        kind = hide_advanced(kind)
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


def hide_advanced(kind: type[T]) -> type[T]:
    """The options without those that are `Advanced`, for their help."""
    hints, mark = get_type_hints(kind, include_extras=True), Advanced.__metadata__[-1]
    hidden = [
        (each.name, Annotated[hints[each.name], tyro.conf.Suppress], each)
        for each in dataclasses.fields(kind)  # type: ignore[arg-type]
        if mark in getattr(hints[each.name], "__metadata__", ())
    ]
    told = {"__doc__": kind.__doc__}
    return dataclasses.make_dataclass(kind.__name__, hidden, bases=(kind,), namespace=told, frozen=True, kw_only=True)


def expect_run(folder: Path) -> None:
    """Raise `ValueError` for a folder without a run."""
    if not (folder / "recipe.json").is_file():
        raise ValueError(f"Expected a run in {folder}, but it has no recipe.json. Check the path.")


def expect_image(path: Path | None) -> None:
    """Raise `ValueError` for an image that is given and not there."""
    if path is not None and not path.exists():
        raise ValueError(f"Expected a picture, but there is no file {path}. Check the path.")
