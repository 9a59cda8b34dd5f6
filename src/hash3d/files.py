"""Files that are whole or absent. Every write of the package goes through here, and tells a failure in one sentence.

A file is written under a temporary name in the same folder, synced and renamed; the folder is synced after it.
"""

import errno
import hashlib
import io
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, mkstemp
from typing import Any

import torch

SEAL = b"\nhash3d sha256 "
"""Before the hexadecimal digest of all bytes that precede it, at the end of a state's file."""
SEAL_BYTES = len(SEAL) + 2 * hashlib.sha256().digest_size
LARGEST_JSON = 2**24
"""Bytes of the largest JSON file that is read."""
ADVICE = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space",
    errno.EFBIG: "Raise the limit of file sizes (ulimit -f)",
    errno.EIO: "Check the disk",
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.ELOOP: "Replace the link by a file",
}


class WriteError(OSError):
    """A file that could not be written, in one sentence that names it and says what to do; its old content stays."""

    def __init__(self, path: Path, cause: OSError) -> None:
        advice = ADVICE.get(cause.errno or 0, "Check the path and its permissions")
        reason = (cause.strerror or str(cause) or type(cause).__name__).rstrip(".")
        kept = " The old file is kept." if os.path.isfile(path) else ""
        super().__init__(f"Could not write {path}: {reason}. {advice}, or write elsewhere.{kept}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `path` when the block ends, and goes away if it fails.

    A link stays, and what it names is replaced. Raises `WriteError` for any `OSError` of the block.
    """
    temporary = None
    try:
        path = path.resolve() if path.is_symlink() else path
        handle, name = mkstemp(prefix=f".{path.name[:100]}.", suffix=f".tmp{path.suffix}", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _sync(temporary)
        os.umask(mask := os.umask(0o077))  # Which can only be read by setting it.
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~mask)
        temporary.replace(path)
        with suppress(PermissionError):  # A folder that may be written but not listed cannot be synced.
            _sync(path.parent)
    except OSError as error:
        raise WriteError(path, error) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Give a temporary folder for other libraries to write to; when the block ends its files replace those of `folder`.

    Each file is whole or absent, and those of the top come last. Raises `WriteError` for an `OSError` of the block, and
    for the exceptions of their own by which safetensors and tokenizers tell one: they have "(os error 28)" in them. A
    folder that was new or empty is removed then.
    """
    make_folder(folder)
    was_empty, whole = not any(folder.iterdir()), False
    try:
        with TemporaryDirectory(prefix=".filling.", dir=folder, ignore_cleanup_errors=True) as name:
            yield Path(name)
            for source in sorted(Path(name).rglob("*"), key=lambda path: (-len(path.parts), path)):
                if source.is_file():
                    path = folder / source.relative_to(name)
                    make_folder(path.parent)
                    with replacing(path) as temporary:
                        source.replace(temporary)
        whole = True
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(folder, error) from error
    except Exception as error:
        if code := re.search(r"\(os error (\d+)\)", str(error)):
            raise WriteError(folder, OSError(int(code[1]), os.strerror(int(code[1])))) from error
        raise
    finally:
        if was_empty and not whole:
            shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk; some file systems cannot sync folders."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def check_suffix(path: Path, suffix: str) -> Path:
    """Return `path` as a `Path`. Raises `ValueError` if its name ends like another format's."""
    if Path(path).suffix.lower() != suffix:
        raise ValueError(f"Expected a file name that ends in {suffix}, but got {Path(path).name!r}. Rename it.")
    return Path(path)


def make_folder(path: Path) -> None:
    """Make a folder and those above it where they are missing."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(path, error) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all, in a folder that is made if need be."""
    make_folder(path.parent)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_once(path: Path, content: bytes) -> None:
    """Write a file as `write_bytes`. Raises `FileExistsError` if there is another of its name."""
    if os.path.lexists(path) and not (path.is_file() and path.read_bytes() == content):
        raise FileExistsError(f"Expected to write {path}, but another file has its name. Write elsewhere, or move it.")
    write_bytes(path, content)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def append_text(path: Path, text: str) -> int:
    """Append to a regular file, all or nothing; links are refused. Returns the file's bytes."""
    make_folder(path.parent)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        with open(descriptor, "ab") as file:
            size = os.fstat(descriptor).st_size
            try:
                file.write(text.encode())
                file.flush()
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
            return os.fstat(descriptor).st_size
    except OSError as error:
        raise WriteError(path, error) from error


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file with their numbers, stripped; empty ones and those that begin with # do not count."""
    lines = enumerate(map(str.strip, path.read_text(encoding="utf-8-sig").splitlines()), start=1)
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def read_json(path: Path, most_bytes: int = LARGEST_JSON) -> dict[str, Any]:
    """Read a JSON object. Raises `ValueError` with one sentence that names the file for anything else."""
    try:
        if not path.is_file():
            raise ValueError("it is no file" if path.exists() else "there is no such file")
        if path.stat().st_size > most_bytes:
            raise ValueError(f"it has more than {most_bytes:,} bytes")
        value = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(value, dict):
            raise ValueError(f"it holds a {type(value).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"Expected a readable JSON object in {path}, but got: {error}.") from error
    return value


class _Hashed(io.BufferedWriter):
    """A binary file that computes the digest of what is written to it."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "w"))
        self.digest = hashlib.sha256()

    def write(self, content: Any) -> int:
        self.digest.update(content)
        return super().write(content)


def save_tensors(path: Path, state: dict[str, Any]) -> None:
    """Write a state of tensors and plain values for `torch.load`, followed by its digest."""
    make_folder(path.parent)
    with replacing(path) as temporary, _Hashed(temporary) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch hides the error of a write behind one of its own.
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None
        file.write(SEAL + file.digest.hexdigest().encode())


def load_tensors(path: Path, device: torch.device | str, *, sealed: bool) -> dict[str, Any]:
    """Read what `save_tensors` wrote. Raises `ValueError` if it was damaged or, where `sealed`, has no digest."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("it is not a file")
        with path.open("rb") as file:
            length = max(path.stat().st_size - SEAL_BYTES, 0)
            file.seek(length)
            seal = file.read()
            if seal.startswith(SEAL):
                file.seek(0)
                digest, left = hashlib.sha256(), length
                while left > 0 and (block := file.read(min(left, 2**20))):
                    digest.update(block)
                    left -= len(block)
                if seal != SEAL + digest.hexdigest().encode():
                    raise ValueError("its content does not match its digest: it was damaged")
            elif sealed:
                raise ValueError("it has no digest: it was damaged, changed, or written by an earlier version")
            file.seek(0)
            state = torch.load(file, map_location=device, weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}")
    except Exception as error:  # torch.load and the unpickler raise errors of many types.
        reason = str(error).splitlines()[0] if isinstance(error, (ValueError, OSError)) else type(error).__name__
        raise ValueError(f"Expected a whole {path}, but it cannot be read: {reason}.") from error
    return state
