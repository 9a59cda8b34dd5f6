"""Files that are whole or absent: written under a temporary name in the same folder, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `path` when the block ends, and goes away if it fails.

    Raises:
        OSError: in one sentence that names `path`, whose old content stays.
    """
    temporary = None
    try:
        handle, name = mkstemp(prefix=f".{path.name[:100]}.", suffix=f".tmp{path.suffix}", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
        temporary.chmod(mode)
        temporary.replace(path)
    except OSError as error:
        kept = " The old file is kept." if path.exists() else ""
        sentence = (
            f"Could not write {path}: {error.strerror or error}. Check its folder, permissions and the free space."
        )
        raise type(error)(sentence + kept) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    """Return the process's mask of permissions, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def check_suffix(path: Path, suffix: str) -> Path:
    """Return `path` as a `Path`. Raises `ValueError` if its name ends like another format's."""
    if Path(path).suffix.lower() != suffix:
        raise ValueError(f"Expected a file name that ends in {suffix}, but got {Path(path).name!r}. Rename it.")
    return Path(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a binary file, whole or not at all, in a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
