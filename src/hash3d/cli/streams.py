"""What is printed, and streams that cannot be written: a run does not end because nobody reads its progress."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH = 240
"""Characters of a table."""


def say(text: object, *, error: bool = False) -> None:
    """Print a line, whole: on stderr if it is an `error`'s."""
    Console(stderr=error, soft_wrap=True, highlight=False, markup=False).print(str(text))


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table whose rows stay lines, also where the terminal is narrower."""
    table = Table(*heads, box=None)
    for column in table.columns:
        column.no_wrap = True
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, width=WIDTH).print(table)


class Unfailing:
    """A text stream, until it cannot be written: from then on what is written is lost."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write at once."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            silence(self._stream)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def silence(stream: Any) -> None:
    """Let a stream's descriptor lead to /dev/null: what its buffers hold is lost without another error."""
    with suppress(OSError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


@contextmanager
def usable_streams() -> Iterator[None]:
    """Make stderr unfailing, and put /dev/null in the place of a stream that was closed before the start (`>&-`).

    What stdout's encoding lacks, such as a letter of a file's name, is written as Python writes it.
    """
    with open(os.devnull, "w") as nowhere:
        errors: Any = Unfailing(sys.stderr or nowhere)
        output: Any = sys.stdout or nowhere
        if getattr(output, "errors", None) == "strict":
            output.reconfigure(errors="backslashreplace")
        with redirect_stdout(output), redirect_stderr(errors):
            yield
