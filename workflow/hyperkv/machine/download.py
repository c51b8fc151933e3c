"""Download one file and check what came."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from ..base.deadline import Deadline
from ..base.errors import PassingError, UserError
from ..base.threads import within

ATTEMPTS = 3
PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)
_TIMEOUT_S = 60
_LEAST_BYTES_PER_S = 16 << 10
_MOST_BYTES = 64 << 30
_PIECE_BYTES = 1 << 20
_FIRST_WAIT_S = 2
_T = TypeVar("_T")


def fetch(url: str, digest: str | None, out: Path, algorithm: str = "sha256") -> None:
    """Download `url` to `out`, which appears only when its digest is right (None: whatever comes). Raises UserError.

    It may take a minute, and a second for each 16 KiB that come. What may pass (a connection that is refused, reset or too slow, a busy server) is tried again, what stays (no such
    file, host or right digest) is not.
    """
    partial = out.with_name(out.name + ".partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    attempted(lambda: _download(url, partial, out))
    with partial.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if digest is not None and found != digest:
        partial.unlink()
        name = algorithm.upper().replace("SHA", "SHA-")
        raise UserError(f"{url} has {name} {found}, not {digest}; it changed or was damaged on the way")
    os.replace(partial, out)


def attempted(action: Callable[[], _T]) -> _T:
    """What `action` returns. A PassingError is tried again, up to three times in all, and says so on stderr."""

    def say(state: RetryCallState) -> None:
        assert state.outcome is not None
        assert state.next_action is not None
        print(
            f"{state.outcome.exception()}; trying again in {state.next_action.sleep:.0f} s",
            file=sys.stderr,
            flush=True,
        )

    try:
        return Retrying(
            retry=retry_if_exception_type(PassingError),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential(_FIRST_WAIT_S, min=_FIRST_WAIT_S),
            before_sleep=say,
            reraise=True,
        )(action)
    except PassingError as error:
        raise PassingError(f"{error} (tried {ATTEMPTS} times)") from error


def _download(url: str, partial: Path, out: Path) -> None:
    try:
        deadline = Deadline(_TIMEOUT_S, _MOST_BYTES, bytes_per_s=_LEAST_BYTES_PER_S)
        with partial.open("wb") as sink:
            within(deadline, lambda: _copy(url, sink, deadline))
    except (OSError, ValueError, HTTPException) as error:
        partial.unlink(missing_ok=True)
        kind = PassingError if may_pass(error) else UserError
        reason = getattr(error, "reason", error)
        raise kind(f"cannot download {url}: {reason}; place the file at {out} yourself to go on") from error


def _copy(url: str, sink: BinaryIO, deadline: Deadline) -> None:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as source:
        while (piece := source.read1(_PIECE_BYTES)) and deadline.left_s() > 0:
            sink.write(piece)
            deadline.moved(len(piece))
        whole, came = source.headers.get("Content-Length"), sink.tell()
        if whole and int(whole) > came:
            raise ConnectionError(f"broke off after {came} of {whole} bytes")


def may_pass(error: Exception) -> bool:
    """Whether what went wrong with a download may be over the next time. A host without an address stays so."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in PASSING_STATUS
    reason = getattr(error, "reason", error)
    if isinstance(reason, socket.gaierror):
        return False
    return isinstance(reason, TimeoutError | ConnectionError | HTTPException)
