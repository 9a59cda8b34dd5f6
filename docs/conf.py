"""Builds the site: `make docs`. The command line and the API reference are generated from the package."""

import io
import pkgutil
import re
import shutil
from contextlib import redirect_stdout, suppress
from importlib import import_module
from inspect import isclass
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
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"
highlight_language = "text"
html_static_path = ["static"]
html_css_files = ["site.css"]
INSIDE = ("files", "finite", "kernels", "ranges", "stopwatch", "model_files", "transfer")
HIDDEN = ("assets", "bench", "cli", "evaluation", "fast", "meshing", "systems", "table", "training", "unet", *INSIDE)
"""Rooms that nobody calls from outside: CONTRIBUTING.md says what is in them."""
FIRST_LINE = "first line"
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
    pages += [("The words of mini-sd", ("words",))]
    lines = ["Command line", "============", ""]
    for title, words in pages:
        lines += [
            title,
            "-" * len(title),
            "",
            ".. code-block:: text",
            "",
            *(f"    {line}" for line in help_of(*words).splitlines()),
            "",
        ]
    (GENERATED / "command_line.rst").write_text("\n".join(lines))


def write_api() -> None:
    """Write a page for each package: of the names in its `__all__`, or of all its public modules."""
    rooms: dict[str, list[str]] = {"hash3d": []}
    for module in pkgutil.walk_packages(hash3d.__path__, "hash3d."):
        parts = module.name.split(".")
        if not any(part.startswith("_") for part in parts) and parts[1] not in HIDDEN:
            rooms.setdefault(".".join(parts[:2]), []).append(module.name)
    contents = [
        "API reference",
        "=============",
        "",
        ".. toctree::",
        "   :hidden:",
        "",
        *(f"   {room}" for room in rooms),
        "",
    ]
    for room, modules in rooms.items():
        package = import_module(room)
        names = [name for name in getattr(package, "__all__", ()) if not (modules and name in hash3d.__all__)]
        lines = [
            room,
            "=" * len(room),
            "",
            f".. automodule:: {room}",
            *["   :no-members:"] * bool(names or modules[1:]),
            "",
        ]
        for name in names or modules[1:]:
            if names and callable(thing := getattr(package, name)):
                lines += [f".. auto{'class' if isclass(thing) else 'function'}:: {room}.{name}", ""]
            elif not names:
                lines += [name, "-" * len(name), "", f".. automodule:: {name}", ""]
        (GENERATED / f"{room}.rst").write_text("\n".join(lines))
        contents += [f":doc:`{room}`", f"   {as_text(package.__doc__.splitlines()[0])}"]
    (GENERATED / "api.rst").write_text("\n".join(contents))


def nest_pages(app, name, text) -> None:
    """The pages beside a README are its children."""
    folder, _, page = name.rpartition("/")
    if page == "README" and folder != "gallery":
        text[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"


def keep_colons(app, what, name, thing, options, lines) -> None:
    """Napoleon would take what stands before a colon in an attribute's first line for its type: a line goes before."""
    if what in ("attribute", "data", "property"):
        lines.insert(0, FIRST_LINE)


def as_text(line: str) -> str:
    """A line of a docstring is plain text with code in backticks: nothing else in it is markup."""
    code = re.split(r"(?<!`)`([^`]+)`(?!`)", line)
    code[::2] = [re.sub(r"([|*]|(?<=\w)_(?!\w))", r"\\\1", text) for text in code[::2]]
    code[1::2] = [f"``{text}``" for text in code[1::2]]
    return "".join(code)


def read_as_text(app, what, name, thing, options, lines) -> None:
    """Docstrings are plain text."""
    lines[:] = [as_text(line) for line in lines if line != FIRST_LINE]


def setup(app) -> None:
    """Write the generated pages."""
    shutil.rmtree(GENERATED, ignore_errors=True)
    GENERATED.mkdir()
    write_command_line()
    write_api()
    app.connect("autodoc-process-docstring", keep_colons, priority=400)
    app.connect("autodoc-process-docstring", read_as_text)
    app.connect("source-read", nest_pages)
