"""`hash3d completion SHELL`."""

from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

import tyro

from hash3d.cache import Hash3DConfig
from hash3d.systems import SYSTEMS

from .bench import Bench
from .evaluate import Evaluate
from .export import Export
from .options import options_of
from .parsing import parse_options
from .render_views import RenderViews
from .systems import Systems
from .table import Table


@dataclass(frozen=True, kw_only=True)
class Completion:
    """Print a completion script.

    For bash: hash3d completion bash > ~/.local/share/bash-completion/completions/hash3d
    """

    shell: tyro.conf.Positional[Literal["bash", "zsh", "tcsh"]]
    """The shell that reads it."""


def main(arguments: list[str]) -> int:
    """Print the script. Returns the exit code."""
    shell = parse_options(Completion, "completion", arguments).shell
    generate = join({system.name: options_of(system, Hash3DConfig()) for system in SYSTEMS})
    commands = {
        "evaluate": Evaluate, "render-views": RenderViews, "export": Export, "systems": Systems, "table": Table,
        "bench": Bench, "completion": Completion,
    }  # fmt: skip
    with suppress(SystemExit):
        tyro.cli(join({"generate": generate, **commands}), prog="hash3d", args=["--tyro-print-completion", shell])
    return 0


def join(kinds: dict[str, Any]) -> Any:
    """One type of several subcommands, each with its options."""
    return reduce(or_, (Annotated[kind, tyro.conf.subcommand(name)] for name, kind in kinds.items()))
