"""Files out of the page cache, so that what is read next is read from their device."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container
from pathlib import Path


class CachedFiles:
    """The files below a folder, those with one of `suffixes` or all. Not for several threads at once."""

    def __init__(self, folder: Path, suffixes: Container[str] | None = None):
        self._folder, self._suffixes = folder, suffixes
        self._synced: dict[Path, tuple[int, int]] = {}

    def evict(self) -> None:
        """Take them out. Those that cannot be opened stay: they come and go."""
        for path in self._folder.rglob("*"):
            with contextlib.suppress(OSError):
                if (self._suffixes is None or path.suffix in self._suffixes) and path.is_file():
                    self._evict(path)

    def _evict(self, path: Path) -> None:
        """Only clean pages can be taken. A file is written out when it has changed since: there are thousands."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            found = os.fstat(descriptor)
            state = (found.st_size, found.st_mtime_ns)
            if self._synced.get(path) != state:
                os.fdatasync(descriptor)
                self._synced[path] = state
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def drop_page_cache() -> bool:
    """Write dirty pages back and drop the page cache; False when this user may not."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("1\n")
    except OSError:
        return False
    return True
