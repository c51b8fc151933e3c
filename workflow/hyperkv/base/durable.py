"""A file replaced as a whole, so that it is the old one or the new one also after a loss of power."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path


def replace_durably(path: Path, data: bytes, prepare: Callable[[Path], None] | None = None) -> None:
    """Write `data` aside, on disk, and rename it to `path`; the folder's entry is on disk before this returns.

    prepare: called with the written file, which is its owner's alone until then, before it is renamed, to give it an owner
    and a mode; without it the file has those of any new one. A link at `path` is replaced, not followed. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    mode = 0o666 if prepare is None else 0o600
    try:
        with os.fdopen(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb"
        ) as file:
            file.write(data)
            if prepare is not None:
                prepare(temporary)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A name beside `path` for a file to be made, which becomes `path` when the block ends well and is removed otherwise.

    The folder is made. Not durable: for what a lost file costs no more than making it again.
    """
    partial = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.unlink(missing_ok=True)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def aside_of(path: Path) -> Path:
    """A name beside a file, that nothing has, for what of it is damaged."""
    names = [path.with_name(f"{path.name}.damaged{end}") for end in ("", *(f".{i}" for i in range(2, 1000)))]
    return next((name for name in names if not os.path.lexists(name)), names[0])


def sync_folder(folder: Path) -> None:
    """Have a folder's entries on disk, where its file system can say so. Raises OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(opened)
