"""Folders that one process made for itself alone, and what tells them from everything else that lies beside them.

Such a folder has a name that nobody can guess, only its user can enter it, and in it lies a mark, which says who made it and
is locked for as long as that process, or a server that it started, lives. What is removed has a mark of this user's
whose lock is free; it is removed through descriptors, so never through a link.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from ..base.errors import UserError, say
from ..base.folders import HELD, cannot_write, open_folder, user_name
from .node import node_name
from .place import place_of

MARK = "hyperkv-owner.json"
_NAME = re.compile(r"hyperkv-[0-9a-f]{8}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LONGEST_MARK = 1 << 16
_ENDING_S = 10.0
_UNFINISHED_S = 600.0
SOCKET_PATH_BYTES = 107  # of a unix socket at most: sun_path of unix(7) without its end
_BELOW_TMPDIR = len("/hyperkv-01234567/data dir/socket")  # the longest of those that are made


class Mark(BaseModel):
    """Who made a folder. inode: the folder's, so that a mark that was moved or copied is none."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    pid: int
    started: float
    host: str
    checkout: str
    what: str
    made_at: str
    inode: int

    @classmethod
    def mine(cls, what: str, inode: int) -> Mark:
        """This process's, for a folder that it just made."""
        return cls(
            pid=os.getpid(),
            started=psutil.Process().create_time(),
            host=node_name(),
            checkout=os.getcwd(),
            what=what,
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            inode=inode,
        )

    @classmethod
    def parsed(cls, text: bytes) -> Mark | None:
        """A mark's file; None when it is none."""
        with contextlib.suppress(ValidationError):
            return cls.model_validate_json(text)
        return None

    def is_of_a_running_process(self) -> bool:
        """Whether that process runs on this machine."""
        with contextlib.suppress(psutil.Error):
            return abs(psutil.Process(self.pid).create_time() - self.started) < 1
        return False


@contextlib.contextmanager
def own_folder(parent: Path, what: str, key: str = "data_dir") -> Iterator[Path]:
    """A new folder in `parent` for the block, removed after it. what: what for, for whoever finds it.

    Folders that processes of this user left in `parent` when they died are removed before, a line each. Raises UserError
    (see open_folder).
    """
    above = open_folder(parent, key)
    name = f"hyperkv-{secrets.token_hex(4)}"
    own = _Own(above, name, parent)
    try:
        try:
            own.make(what)
        except OSError as error:
            raise cannot_write(parent, key, error.strerror) from error
        _remove_left_behind(above, own, parent)
        yield parent / name
    finally:
        own.remove()
        os.close(above)


def socket_folder() -> contextlib.AbstractContextManager[Path]:
    """A new folder for unix sockets, see own_folder: in TMPDIR, or in /tmp where that is too deep for the kernel."""
    above = tempfile.gettempdir()
    deep = len(os.fsencode(above)) + _BELOW_TMPDIR > SOCKET_PATH_BYTES
    return own_folder(Path("/tmp" if deep else above), "a socket", "TMPDIR")


class _Own:
    """One such folder, of which at any time as much is there as was made. mark: the descriptor that holds its lock."""

    def __init__(self, above: int, name: str, parent: Path):
        self._above, self.name, self._parent = above, name, parent
        self._may_be_there = True
        self.folder: int | None = None
        self.mark: int | None = None

    def make(self, what: str) -> None:
        """Raises OSError, and when somebody put another folder in its place, which then stays as it is."""
        os.mkdir(self.name, 0o700, dir_fd=self._above)
        self.folder = os.open(self.name, _FOLDER, dir_fd=self._above)
        mark = os.open(MARK, _FILE | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self.folder)
        try:
            found = os.fstat(self.folder)
            if found.st_uid != os.fstat(mark).st_uid:
                self._may_be_there = False
                raise OSError(errno.EBUSY, f"somebody put another folder in the place of {self.name}")
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(mark, fcntl.LOCK_EX)
            text = Mark.mine(what, found.st_ino).model_dump_json().encode()
            if os.write(mark, text) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except BaseException:
            os.unlink(MARK, dir_fd=self.folder)
            os.close(mark)
            raise
        self.mark = mark
        HELD.add(mark)

    @property
    def uid(self) -> int:
        """Whom what this process makes here belongs to: another than its own on some network file systems."""
        assert self.folder is not None
        return os.fstat(self.folder).st_uid

    def is_unfinished(self, folder: int) -> bool:
        """Whether another folder of this user's has had nothing but a mark, if that, for so long that who made it is dead.

        Both times are the file system's.
        """
        assert self.folder is not None
        found = os.fstat(folder)
        age_s = os.fstat(self.folder).st_ctime - found.st_ctime
        return found.st_uid == self.uid and age_s > _UNFINISHED_S and not set(os.listdir(folder)) - {MARK}

    def remove(self) -> None:
        """Remove what was made; a line says so when something stays."""
        if self.mark is not None and self.folder is not None:
            if left := removed(self._above, self.name, self.folder):
                say(f"{self._parent / self.name}: not removed: {left}")
            HELD.discard(self.mark)
        elif self._may_be_there:
            with contextlib.suppress(OSError):
                os.rmdir(self.name, dir_fd=self._above)
        for descriptor in (self.mark, self.folder):
            if descriptor is not None:
                os.close(descriptor)


def _remove_left_behind(above: int, own: _Own, parent: Path) -> None:
    for name in sorted(os.listdir(above)):
        if name != own.name and _NAME.fullmatch(name):
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                folder = os.open(name, _FOLDER, dir_fd=above)
                stack.callback(os.close, folder)
                if (told := _left_behind(folder, own, parent, stack)) is None:
                    continue
                left = removed(above, name, folder)
                done = f"not removed: {left}" if left else "removed"
                say(f"{parent / name}: left by {told}, {done}")


def _left_behind(folder: int, own: _Own, parent: Path, stack: contextlib.ExitStack) -> str | None:
    """Who left an open folder behind, as a line names it; None when nobody did. Its mark stays locked until `stack` ends."""
    unfinished = "a process that was killed before it used it"
    try:
        descriptor = os.open(MARK, _FILE, dir_fd=folder)
    except FileNotFoundError:
        return unfinished if own.is_unfinished(folder) else None
    stack.callback(os.close, descriptor)
    if not _is_plain(descriptor, own.uid) or os.fstat(folder).st_uid != own.uid:
        return None
    text = os.pread(descriptor, _LONGEST_MARK, 0)
    mark = Mark.parsed(text)
    if mark is None:
        torn = not text.endswith(b"}") and own.is_unfinished(folder)
        return unfinished if torn and _takes_lock(descriptor) is not False else None
    if mark.inode != os.fstat(folder).st_ino or not _is_left_behind(mark, descriptor, parent):
        return None
    return f"pid {mark.pid} in {mark.checkout} ({mark.what}, {mark.made_at})"


def _is_plain(descriptor: int, uid: int) -> bool:
    """Whether a mark is a plain file of this user's of which there is no other hard link, and which was not removed meanwhile."""
    found = os.fstat(descriptor)
    plain = stat.S_ISREG(found.st_mode) and found.st_size <= _LONGEST_MARK and found.st_nlink == 1
    return plain and found.st_uid == uid


def _is_left_behind(mark: Mark, descriptor: int, parent: Path) -> bool:
    """Whether nobody holds the lock, where that is proof: another node's lock may not be seen on a network file system."""
    taken = _takes_lock(descriptor)
    if taken is None:
        return mark.host == node_name() and not mark.is_of_a_running_process()
    if not taken or os.fstat(descriptor).st_nlink != 1:  # gone, by another start that held the lock until now
        return False
    return mark.host == node_name() or place_of(parent).kind != "network"


def _takes_lock(descriptor: int) -> bool | None:
    """Take the lock of a mark that nobody holds; None where a file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def removed(above: int, name: str, folder: int) -> str | None:
    """Remove an open folder and what is in it, its mark last; None, or why something stays.

    above: descriptor of what it lies in. Links in it are removed, not followed; where something is mounted below, all stays.
    """
    path = Path(os.readlink(f"/proc/self/fd/{folder}"))
    for mount in psutil.disk_partitions(all=True):
        if Path(mount.mountpoint).is_relative_to(path):
            return f"something is mounted at {mount.mountpoint}; unmount it"
    try:
        for entry in os.listdir(folder):
            if entry != MARK:
                _remove_entry(entry, folder)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(MARK, dir_fd=folder)
        os.rmdir(name, dir_fd=above)
    except OSError as error:
        return error.strerror
    return None


def _remove_entry(entry: str, folder: int) -> None:
    if stat.S_ISDIR(os.stat(entry, dir_fd=folder, follow_symlinks=False).st_mode):
        shutil.rmtree(entry, dir_fd=folder)
    else:
        os.unlink(entry, dir_fd=folder)


@contextlib.contextmanager
def alone_on(folder: Path) -> Iterator[None]:
    """Nobody else measures on the folder during the block, which makes it where it is missing.

    Raises UserError naming who does (and see open_folder); who is just ending, a server of theirs, is waited for. Where a
    file system has no locks, as between nodes, nothing is known of others.
    """
    opened = open_folder(folder, "data_dir")
    try:
        _take(opened, folder)
        HELD.add(opened)
        yield
    finally:
        HELD.discard(opened)
        os.close(opened)


def _take(opened: int, folder: Path) -> None:
    deadline = time.monotonic() + _ENDING_S
    while True:
        try:
            return fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder_of(opened)
        except OSError:  # a file system without locks
            return None
        if holder is not None or time.monotonic() > deadline:
            raise UserError(
                f"data_dir: {folder} is being measured on by {holder or 'another run, or a server that one left behind'}; two at "
                f"once disturb each other: wait for it or end it and run again, or choose a folder on another disk with data_dir"
            )
        time.sleep(0.02)


def _holder_of(opened: int) -> str | None:
    """The running process that took the lock, None when it is not seen (proc_locks(5)): gone, or in another container."""
    found = os.fstat(opened)
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    with contextlib.suppress(OSError, psutil.Error):
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        on_inode = [line for line in lines if line[1] == "FLOCK" and line[5].endswith(f":{found.st_ino}")]
        of_device = [line for line in on_inode if line[5].startswith(device)]
        # Btrfs and overlayfs have another device there than stat(2) tells.
        for line in of_device or (on_inode if len(on_inode) == 1 else []):
            process = psutil.Process(int(line[4]))
            with contextlib.suppress(psutil.AccessDenied):
                return f"pid {process.pid} in {process.cwd()}"
            return f"pid {process.pid} of {user_name(process.uids().real)}"
    return None
