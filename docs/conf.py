"""Builds the site: `make docs`. The command line and the API reference are generated from the package."""

import io
import pkgutil
import re
import shutil
from contextlib import redirect_stdout, suppress
from pathlib import Path

import hash3d
from hash3d.cli import COMMANDS, main
from hash3d.systems import SYSTEMS

project, author, release = "hash3d", "the hash3d authors", hash3d.__version__
copyright = "the hash3d authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"hash3d {release}"
exclude_patterns = ["_build"]
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
suppress_warnings = ["ref.python"]  # A name that two modules have is a link to neither.
autodoc_default_options = {"members": True, "undoc-members": False, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
HIDDEN = ("assets", "bench", "cli", "evaluation", "fast", "meshing", "systems", "training", "unet")
"""Rooms that nobody calls from outside: CONTRIBUTING.md says what is in them."""
GENERATED = Path(__file__).parent / "generated"


def help_of(*words: str) -> str:
    """What a command prints."""
    said = io.StringIO()
    with redirect_stdout(said), suppress(SystemExit):
        main(words)
    return re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue()).rstrip()


def write_command_line() -> None:
    """Write the page of the commands from their help."""
    pages = [("hash3d", ("--help",))]
    pages += [(f"hash3d generate {each.name}", ("generate", each.name, "--help")) for each in SYSTEMS]
    pages += [("The options of the cache", ("generate", "zero123_gs", "--help-all"))]
    pages += [(f"hash3d {name}", (name, "--help")) for name in COMMANDS if name != "generate"]
    lines = ["Command line", "============", ""]
    for title, words in pages:
        lines += [title, "-" * len(title), "", "::", "", *(f"    {line}" for line in help_of(*words).splitlines()), ""]
    (GENERATED / "command_line.rst").write_text("\n".join(lines))


def write_api() -> None:
    """Write a page for each package with all of its public modules."""
    rooms: dict[str, list[str]] = {"hash3d": ["hash3d", "hash3d.unet"]}
    for module in pkgutil.walk_packages(hash3d.__path__, "hash3d."):
        parts = module.name.split(".")
        if not any(part.startswith("_") for part in parts) and parts[1] not in HIDDEN:
            rooms.setdefault(".".join(parts[:2]), []).append(module.name)
    for room, modules in rooms.items():
        lines = [room, "=" * len(room), ""]
        for name in modules:
            heading = [] if name == room else [name, "-" * len(name), ""]
            lines += [*heading, f".. automodule:: {name}", *["   :no-members:"] * (name == room), ""]
        (GENERATED / f"{room}.rst").write_text("\n".join(lines))
    contents = "\n".join(f"   {room}" for room in rooms)
    (GENERATED / "api.rst").write_text(f"API reference\n=============\n\n.. toctree::\n\n{contents}\n")


def read_as_text(app, what, name, thing, options, lines) -> None:
    """Docstrings are plain text with code in backticks: nothing else in them is markup."""
    escaped = [re.sub(r"([|*]|(?<=\w)_(?!\w))", r"\\\1", line) for line in lines]
    lines[:] = [re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", line) for line in escaped]


def setup(app) -> None:
    """Write the generated pages."""
    shutil.rmtree(GENERATED, ignore_errors=True)
    GENERATED.mkdir()
    write_command_line()
    write_api()
    app.connect("autodoc-process-docstring", read_as_text)
