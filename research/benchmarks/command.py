"""The command of the running benchmark and where it ran, for its page."""

import shlex
import sys
from pathlib import Path
from typing import Any


def command_line() -> str:
    """Return `python -m research.benchmarks.NAME OPTIONS`, as this process was started."""
    return shlex.join(["python", "-m", f"research.benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]])


def describe_run(account: dict[str, Any]) -> str:
    """Return the command, and the commit, hardware and date of a machine's `account`, without a full stop."""
    return f"`{command_line()}`, commit {account['commit']}, {account['hardware']}, {account['date']}"
