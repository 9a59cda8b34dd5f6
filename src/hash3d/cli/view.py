"""`hash3d view RUN`."""

import webbrowser
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from .parsing import expect_run, parse_options


@dataclass(frozen=True, kw_only=True)
class View:
    """Open a run's page, view.html: the asset to turn around, its input and its figures."""

    folder: tyro.conf.Positional[Path]
    """The run folder."""
    no_browser: bool = False
    """Write the page and print its path, but open nothing."""


def main(arguments: list[str]) -> int:
    """Write the page anew and open it. Returns the exit code."""
    options = parse_options(View, "view", arguments)
    expect_run(options.folder)
    from hash3d.training.outputs import write_view

    page = write_view(options.folder)
    if not options.no_browser:
        webbrowser.open(page.resolve().as_uri())
    Console(highlight=False, soft_wrap=True).print(str(page), markup=False)
    return 0
