"""`hash3d view RUN`."""

import webbrowser
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import tyro

from .parsing import expect_run, parse_options
from .streams import say


@dataclass(frozen=True, kw_only=True)
class View:
    """Open a run's page, view.html: the asset to turn around, its input and its figures."""

    folder: tyro.conf.Positional[Path]
    """The run folder."""
    no_browser: bool = False
    """Write the page and print its path, but open nothing."""
    live: bool = False
    """Render the asset itself instead, by the package viser, as its system does: to film a path, or what has no page.
    Ctrl+C ends it."""


def main(arguments: list[str]) -> int:
    """Write the page anew and open it. Returns the exit code."""
    options = parse_options(View, "view", arguments)
    expect_run(options.folder)
    if options.live:
        return show_live(options.folder, no_browser=options.no_browser)
    from hash3d.training.outputs import write_view

    page = write_view(options.folder)
    if not options.no_browser:
        webbrowser.open(page.resolve().as_uri())
    say(page)
    return 0


def show_live(folder: Path, *, no_browser: bool) -> int:
    """Render a run's asset for the browsers that look at it, until Ctrl+C. Returns the exit code."""
    from hash3d.scenes.show import colors
    from hash3d.training.outputs import load_asset, read_reached

    from .host import choose_device
    from .live import LiveView

    recipe = read_reached(folder)
    live = LiveView(folder, recipe.stages[-1].cameras, recipe.reference_elevation)
    live.render = colors(load_asset(folder, choose_device(None))[1])
    live.pause.visible = False
    live.say(folder.name)
    say(f"{live.url} (Ctrl+C ends it)")
    if not no_browser:
        webbrowser.open(live.url)
    with suppress(KeyboardInterrupt):
        live.wait(lambda: not live.stopped)
    live.close()
    return 0
