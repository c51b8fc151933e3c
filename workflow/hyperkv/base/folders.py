"""Folders opened so that nobody else can have put another, or a link, in their place."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import secrets
import stat
from collections import deque
from pathlib import Path

from .errors import UserError

LEAST_FREE_BYTES = 1 << 20
# Every server that this process starts holds on to these as well: locks that last as long as the last of them.
HELD: set[int] = set()
_MOST_LINKS = 40
_PASSED = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPENED = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_folder(path: Path, key: str) -> int:
    """A descriptor of the folder `path`, which is made where it is missing.

    key: the config's, for messages. Raises UserError when it cannot be made or read, and when somebody else than root and
    this user can put another in its place: a link of theirs is on the way, or a folder of theirs in one that everybody may
    write; for root also when such a one is not sticky. Others than root, who may not be able to mend that, risk their own
    files alone.
    """
    try:
        return _walked(path, key, make=True)
    except OSError as error:
        raise cannot_write(path, key, error.strerror) from error


def check_folder(path: Path, key: str) -> None:
    """That `open_folder` would do, and that there is room; nothing that is made for it stays. Raises UserError."""
    try:
        opened = _walked(path, key, make=False)
        try:
            name = f".hyperkv-{secrets.token_hex(4)}"
            os.mkdir(name, 0o700, dir_fd=opened)
            os.rmdir(name, dir_fd=opened)
            room = os.fstatvfs(opened)
        finally:
            os.close(opened)
    except OSError as error:
        raise cannot_write(path, key, error.strerror) from error
    if room.f_blocks and room.f_bavail * room.f_frsize < LEAST_FREE_BYTES:
        raise cannot_write(path, key, os.strerror(errno.ENOSPC))


def cannot_write(path: Path, key: str, why: str | None) -> UserError:
    """The error for a folder that cannot be made or written."""
    return UserError(f"{key}: cannot write in {path}: {why}; choose a writable folder with {key}")


def nearest(path: Path) -> Path:
    """A folder itself, or the nearest above it that is there."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def user_name(uid: int) -> str:
    """A user as a message names it."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def _walked(path: Path, key: str, make: bool) -> int:
    """The folder's descriptor; without `make`, of the nearest above it that is there. Raises UserError and OSError."""
    parts = deque((path if path.is_absolute() else Path.cwd() / path).parts[1:])
    own_parts, links = len(parts), 0  # own_parts: how many are left, at most, once a link's are gone
    here, at = os.open("/", _PASSED), Path("/")
    try:
        while True:
            holder = os.fstat(here)
            to_all = bool(holder.st_mode & stat.S_IWOTH)
            if to_all and not holder.st_mode & stat.S_ISVTX and os.geteuid() == 0:
                raise UserError(
                    f"{key}: {path}: everybody may put another folder in the place of one in {at}; chmod +t {at}, or choose "
                    f"another folder with {key}"
                )
            if not parts:
                return os.open(".", _OPENED, dir_fd=here)
            part = parts.popleft()
            try:
                found = os.stat(part, dir_fd=here, follow_symlinks=False)
            except FileNotFoundError:
                if len(parts) >= own_parts:
                    text = f"a link leads to {at / part}, which is not there; make it, or choose another folder with {key}"
                    raise UserError(f"{key}: {path}: {text}") from None
                if not make:
                    return os.open(".", _OPENED, dir_fd=here)
                with contextlib.suppress(FileExistsError):  # whoever made it meanwhile is looked at next
                    os.mkdir(part, 0o755, dir_fd=here)
                parts.appendleft(part)
                continue
            if stat.S_ISLNK(found.st_mode):
                _refuse_foreign(found, f"the link {at / part}", path, key)
                links, own_parts = links + 1, min(own_parts, len(parts))
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                target = Path(os.readlink(part, dir_fd=here))
                parts.extendleft(reversed(target.parts[target.is_absolute() :]))
                if not target.is_absolute():
                    continue
                below, at = os.open("/", _PASSED), Path("/")
            else:
                below, at = os.open(part, _PASSED, dir_fd=here), at / part
            os.close(here)
            here = below
            if to_all and part != "..":
                _refuse_foreign(os.fstat(here), str(at), path, key)
    finally:
        os.close(here)


def _refuse_foreign(found: os.stat_result, what: str, path: Path, key: str) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise UserError(
            f"{key}: {path}: {what} is of {user_name(found.st_uid)}, who can put another folder in its place; choose one with "
            f"{key} that is reached without it"
        )
