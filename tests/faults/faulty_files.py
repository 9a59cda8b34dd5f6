"""Make the n-th file operation of `hash3d.files` fail, or end the process as far as its files can tell."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from hash3d import files

OPERATIONS = [
    (files, "mkstemp"), (os, "open"), (os, "fsync"), (torch, "save"),
    (Path, "mkdir"), (Path, "write_bytes"), (Path, "chmod"), (Path, "replace"),
]  # fmt: skip


class Killed(BaseException):
    """The process has ended: no handler of it runs, and no file changes any more."""


@contextmanager
def failing_at(number, code, operations=OPERATIONS):
    """Raise `OSError(code)` at operation `number`, or `Killed` from there on if `code` is None. Yields the count."""
    count = [0]

    def wrap(function):
        def operate(*args, **kwargs):
            count[0] += 1
            if code is None and count[0] >= number:
                raise Killed
            if count[0] == number:
                raise OSError(code, os.strerror(code))
            return function(*args, **kwargs)

        return operate

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in operations:
            patch.setattr(owner, name, wrap(getattr(owner, name)))
        unlink = Path.unlink
        patch.setattr(Path, "unlink", lambda *a, **k: unlink(*a, **k) if code or count[0] < number else None)
        yield count
