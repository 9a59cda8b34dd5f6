"""`hash3d completion SHELL`."""

from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from operator import or_
from typing import Annotated, Any, Literal

import tyro

from hash3d.cache import Hash3DConfig
from hash3d.systems import SYSTEMS

from . import COMMANDS
from .options import options_of
from .parsing import parse_options


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
    modules = {name: import_module(f"hash3d.cli.{name.replace('-', '_')}") for name in COMMANDS if name != "generate"}
    commands = {name: getattr(module, name.title().replace("-", "")) for name, module in modules.items()}
    with suppress(SystemExit):
        tyro.cli(join({"generate": generate, **commands}), prog="hash3d", args=["--tyro-print-completion", shell])
    return 0


def join(kinds: dict[str, Any]) -> Any:
    """One type of several subcommands, each with its options."""
    return reduce(or_, (Annotated[kind, tyro.conf.subcommand(name)] for name, kind in kinds.items()))
