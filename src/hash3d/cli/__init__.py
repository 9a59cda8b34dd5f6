"""The command line.

Exit codes: 0 done; 1 nobody reads the output; 2 a user's mistake, told in one sentence; 130 interrupted, and resumable.
"""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from hash3d import __version__

from .streams import say, silence, usable_streams

COMMANDS = {
    "generate": "turn an image or a text into a 3D asset",
    "batch": "turn many images or texts into assets, by one or more workers",
    "web": "serve a page on this machine that makes assets",
    "view": "open a run's page: the asset to turn around, its input and its figures",
    "evaluate": "compare a run with true views: PSNR, SSIM, LPIPS, CLIP",
    "render-views": "render true views of your meshes, for evaluate",
    "convert": "turn a single file of weights into a diffusers folder",
    "export": "write a run's asset as GLB, OBJ, PLY, MP4 or a contact sheet",
    "threestudio": "let a checkout of threestudio reuse features",
    "words": "list the words that the embedded text prior has seen",
    "systems": "list the systems",
    "table": "run systems on objects and prompts with and without reuse, and compare",
    "bench": "measure a system with and without reuse",
    "completion": "print a completion script for bash, zsh or tcsh",
}
LONGEST_MESSAGE = 1000
"""Characters of an error that are shown."""
USAGE = "hash3d COMMAND [OPTIONS]; hash3d COMMAND --help tells a command's options, hash3d --version the version"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command, and leave with its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with usable_streams():
        try:
            sys.exit(run_command(given))
        except BrokenPipeError:
            silence(sys.stdout)
            sys.exit(1)
        except (ValueError, OSError, ImportError) as error:
            if os.environ.get("HASH3D_TRACEBACK"):
                raise
            fail(format_error(error))
        except KeyboardInterrupt:
            sys.exit(130)


def run_command(given: list[str]) -> int:
    """Run the command that the arguments name. Returns its exit code."""
    if not given or given[0] in ("-h", "--help", "help"):
        say("\n".join([USAGE, *(f"  {name:12} {meaning}" for name, meaning in COMMANDS.items())]))
        return 0 if given else 2
    if given == ["--version"]:
        say(f"hash3d {__version__}")
        return 0
    name, *options = given
    if name not in COMMANDS:
        raise ValueError(f"Expected a command ({', '.join(COMMANDS)}), but got {name!r}. Try: hash3d --help")
    if "OMP_WAIT_POLICY" not in os.environ:  # Before torch is loaded: threads soon sleep where they wait (cpu.md).
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    command: Callable[[list[str]], int] = import_module(f"hash3d.cli.{name.replace('-', '_')}").main
    warnings.showwarning = say_warning
    return command(options)


def format_error(error: Exception) -> str:
    """An error as one sentence; what the operating system said gets its path."""
    if isinstance(error, OSError) and error.strerror:
        place = f" {error.filename}" if error.filename else ""
        return f"Could not read or write{place}: {error.strerror}. Check the path, its permissions and the free space."
    return str(error)


def escape(text: str) -> str:
    """Write what a terminal would obey, such as the control characters of a file's name, as Python does."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text.strip())


def say_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Say a warning in one line on stderr."""
    say(f"{category.__name__}: {escape(str(message))}", error=True)


def fail(message: str) -> None:
    """Say what is wrong on stderr, without the middle of what is endless, and leave with 2."""
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[: LONGEST_MESSAGE // 2]} ... {message[-LONGEST_MESSAGE // 2 :]}"
    say(f"hash3d: {escape(message)}", error=True)
    sys.exit(2)
