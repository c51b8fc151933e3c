"""Who measures on a server that is there already: one run at a time, and what a run that broke off left is deleted by the next.

The lease is a key with a time to live, which its holder renews. All other keys below NAMESPACE are of runs, of which the holder's alone lives.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

import redis

from ...base.errors import UserError, printable, say
from .place import NAMESPACE

KEY = f"{NAMESPACE}lease"
LIVES_S = 20.0  # without a renewal; a run that was killed keeps the server so long
RENEWED_S = 4.0
_LOOKED_S = 0.5
_SLACK_MS = 200
_TOGETHER = 500
_OF_RUN = re.compile(re.escape(NAMESPACE.encode()) + rb"[0-9a-f]{8}:")


class Lease:
    """One server's, which is one of its keys. connect: a new client. where: the server's address, for messages. lost: why it is not held any more, else None."""

    keys = 1

    def __init__(self, connect: Callable[[], redis.Redis], run: str, where: str):
        self._connect, self._where = connect, where
        self._me = json.dumps({"run": run, "host": socket.gethostname(), "pid": os.getpid()}).encode()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.lost: str | None = None

    @property
    def held(self) -> bool:
        """Whether it was taken and not given back; it may be lost."""
        return self._thread is not None

    def take(self) -> None:
        """Hold it, from now on renewed by a thread; that of a run that does not live any more is waited for, which a line says. Raises UserError."""
        with self._connect() as client:
            seen: tuple[bytes, int] | None = None
            while not self._set(client):
                left_ms = client.pttl(KEY)
                if left_ms == -1:
                    raise UserError(
                        f"place.addresses: {self._where} has a key {KEY} that no run wrote, since it never ends; delete or rename it"
                    )
                other = client.get(KEY)
                if not isinstance(other, bytes):
                    continue
                if other == self._me:
                    raise UserError(
                        f"place.addresses: {self._where} is a server that another address names as well; leave it out"
                    )
                renewed = seen is not None and (other != seen[0] or left_ms > seen[1] + _SLACK_MS)
                if renewed or left_ms > 1000 * LIVES_S:
                    raise UserError(
                        f"place.addresses: another run measures on {self._where} ({_told(other)}); wait until it has ended"
                    )
                if seen is None:
                    say(
                        f"place.addresses: {self._where} is another run's ({_told(other)}); if that was killed, this one has it"
                        f" in {math.ceil(left_ms / 1000)} s"
                    )
                seen = (other, left_ms)
                time.sleep(_LOOKED_S)
        self._thread = threading.Thread(target=self._renew, name="place-lease", daemon=True)
        self._thread.start()

    def again(self, client: redis.Redis) -> None:
        """Set it once more, when the server was emptied. Raises UserError where another run came between."""
        if not self._set(client) and client.get(KEY) != self._me:
            raise UserError(
                f"place.addresses: another run measures on {self._where}; wait until it has ended"
            )

    def give_back(self) -> None:
        """Let others have it; nothing when it is not held. Raises redis.RedisError."""
        if self._thread is None:
            return
        self._closing.set()
        self._thread.join()
        self._thread = None
        if self.lost is None:
            with self._connect() as client:
                if client.get(KEY) == self._me:
                    client.unlink(KEY)

    def _set(self, client: redis.Redis) -> bool:
        return bool(client.set(KEY, self._me, nx=True, px=int(LIVES_S * 1000)))

    def _renew(self) -> None:
        held_until = time.monotonic() + LIVES_S
        while not self._closing.wait(RENEWED_S):
            try:
                with self._connect() as client:
                    if client.get(KEY) != self._me and not self._set(client):
                        self.lost = f"another run took {self._where} over"
                        return
                    client.pexpire(KEY, int(LIVES_S * 1000))
                held_until = time.monotonic() + LIVES_S
            except redis.RedisError as error:
                if time.monotonic() > held_until:
                    self.lost = f"{self._where} did not answer for {LIVES_S:.0f} s: {error}"
                    return


class NoLease:
    """That of a node of a cluster which another node has."""

    keys = 0
    lost: str | None = None

    def __init__(self) -> None:
        self.held = False

    def take(self) -> None:
        self.held = True

    def again(self, client: redis.Redis) -> None:
        """Nothing."""

    def give_back(self) -> None:
        self.held = False


def require_rights(client: redis.Redis, key: str) -> None:
    """That this user may do to keys what a run does, tried on one of ours that ends by itself, so that nothing stays where it may not.

    Raises redis.RedisError.
    """
    client.set(key, b"", px=1000)
    client.get(key)
    client.pexpire(key, 1000)
    client.unlink(key)
    client.scan(count=1)


def delete_runs(client: redis.Redis, overwrite: bool) -> int:
    """Delete the keys of all runs; how many there were. To be called by the lease's holder.

    overwrite: with nothing first, since Kvrocks reads a value before it deletes it. Raises redis.RedisError.
    """
    count = 0
    for keys in _batches(client):
        with client.pipeline(
            transaction=False
        ) as commands:  # of one key each, since a cluster takes no others
            for key in keys:
                if overwrite:
                    commands.set(key, b"")
                commands.unlink(key)
            commands.execute()
        count += len(keys)
    return count


def _batches(client: redis.Redis) -> Iterator[list[bytes]]:
    found = (key for key in client.scan_iter(match=f"{NAMESPACE}*", count=1000) if _OF_RUN.match(key))
    while batch := list(itertools.islice(found, _TOGETHER)):
        yield batch


def _told(holder: bytes) -> str:
    """Who that is, in words; what others wrote there is cut."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        known = json.loads(holder)
        return printable(f"process {known['pid']} of {known['host']}"[:100])
    return "it does not say whose"
