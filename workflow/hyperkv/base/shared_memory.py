"""The shared memory of a server's processes: what they had mapped goes with them, after kill -9 of its owner with the next server of the same log."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

_MAPPED = re.compile(r"(?m) (/dev/shm/[^/\n]+)(?<! \(deleted\))$")
_FOLDER = Path("/dev/shm")


class SharedMemory:
    """Objects of POSIX shared memory (shm_overview(7)) that processes have mapped.

    note: a file that names them as long as they may be left. Who is given it next has them, too.
    """

    def __init__(self, note: Path):
        self._note = note
        self._seen: set[Path] = set()

    def take_over(self) -> None:
        """Remove what an owner that was killed has left, and remember what of it is in use."""
        with contextlib.suppress(OSError):
            noted = map(Path, self._note.read_text().splitlines())
            self._seen |= {path for path in noted if path.parent == _FOLDER}
        self.remove_unused()

    def see(self, pids: Iterable[int]) -> None:
        """Remember, and note, what processes have mapped: one that is killed later does not tell."""
        if mapped := _mapped(pids) - self._seen:
            self._seen |= mapped
            with contextlib.suppress(OSError):
                self._note.write_text("".join(f"{name}\n" for name in sorted(self._seen)))

    def remove_unused(self) -> None:
        """Remove what nobody has mapped, of the user's own; when nothing is left, the note."""
        self._seen = self._there()
        if self._seen:
            for unused in self._seen - _mapped(int(name) for name in os.listdir("/proc") if name.isdigit()):
                with contextlib.suppress(OSError):
                    unused.unlink()
            self._seen = self._there()
        if not self._seen:
            with contextlib.suppress(OSError):
                self._note.unlink()

    def _there(self) -> set[Path]:
        return {one for one in self._seen if one.exists()}


def _mapped(pids: Iterable[int]) -> set[Path]:
    found: set[Path] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            found |= {Path(name) for name in _MAPPED.findall(Path(f"/proc/{pid}/maps").read_text())}
    return found
