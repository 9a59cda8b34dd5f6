"""The command of the running benchmark, for its page."""

import shlex
import sys
from pathlib import Path


def command_line() -> str:
    """Return `python -m research.benchmarks.NAME OPTIONS`, as this process was started."""
    return shlex.join(["python", "-m", f"research.benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]])
