"""A system's text file replaced as a whole: by the file that a link leads to, with its owner, mode and labels kept."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from ...base.durable import replace_durably


def replace_text(path: Path, before: str, after: str, backup: str | None = None) -> None:
    """Put `after` in the place of `before`, which may be that of no file; other readers see the one or the other.

    backup: what is added to the name for a copy of the file as it was; None for no copy. Bytes that are no UTF-8 are
    surrogates in the texts. Raises OSError when the file's text is not `before`, when it is a link to nothing, no file,
    or, through a link, a file that others than root and this user may change.
    """
    real = Path(os.path.realpath(path))
    there = _checked(path, real)
    if (real.read_bytes() if there is not None else b"") != _bytes(before):
        raise OSError("it is not as it was looked at")
    real.parent.mkdir(parents=True, exist_ok=True)
    if backup is not None and there is not None:
        _put(real, real.with_name(real.name + backup), _bytes(before), there)
    _put(real, real, _bytes(after), there)


def _checked(path: Path, real: Path) -> os.stat_result | None:
    try:
        found = real.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise OSError(f"it is a link to {real}, which is not there") from None
        return None
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is no regular file")
    if path.is_symlink():
        for what in (real, *real.parents):
            seen = what.stat()
            open_to_all = seen.st_mode & 0o022 and not seen.st_mode & stat.S_ISVTX
            if seen.st_uid not in (0, os.geteuid()) or open_to_all:
                raise OSError(f"it is a link to {real}, and others may change {what}")
    return found


def _put(like: Path, target: Path, data: bytes, found: os.stat_result | None) -> None:
    """Write a file, as `like` is in all but its text and time, in the place of target."""

    def prepare(temporary: Path) -> None:
        if found is None:
            os.chmod(temporary, 0o644)
            return
        os.chown(temporary, found.st_uid, found.st_gid)
        shutil.copystat(like, temporary)
        os.utime(temporary)

    replace_durably(target, data, prepare)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
