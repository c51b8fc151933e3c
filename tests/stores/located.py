"""What tests of LOCATE share: its answers read, and the bytes that they name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from tests.stores.conftest import KVROCKS_BIN
from workflow.hyperkv.build.kvrocks_patches import patches_in

PATCH = "locate-values"


@dataclass(frozen=True)
class Place:
    """LENGTH bytes at OFFSET of a file whose path is relative to the server's folder."""

    offset: int
    length: int
    path: Path

    def read(self, folder: Path) -> bytes:
        """The bytes, fewer where the file is shorter. Raises FileNotFoundError when it has gone."""
        descriptor = os.open(folder / self.path, os.O_RDONLY)
        try:
            return os.pread(descriptor, self.length, self.offset)
        finally:
            os.close(descriptor)


def answer_of(reply: bytes | None) -> Place | bytes | None:
    """One key's answer: None, b"" or a place."""
    if not reply:
        return reply
    offset, length, path = reply.split(b" ", 2)
    return Place(int(offset), int(length), Path(os.fsdecode(path)))


def locate(client: redis.Redis, keys: Sequence[bytes | str]) -> list[Place | bytes | None]:
    """What a server says of the keys, in their order."""
    return [answer_of(reply) for reply in client.execute_command("LOCATE", *keys)]


def locating(name: str):
    """A server's name as a test parameter, skipped where there is none with LOCATE."""
    return patched(name, PATCH)


def patched(name: str, patch: str):
    """A server's name as a test parameter, skipped where it is a Kvrocks without a patch."""
    there = [each["name"] for each in (patches_in(Path(KVROCKS_BIN)) if KVROCKS_BIN else [])]
    missing = name == "kvrocks" and patch not in there
    skip = pytest.mark.skip(reason=f"KVROCKS_BIN names no Kvrocks with patch {patch}")
    return pytest.param(name, marks=[skip] if missing else [], id=name)
