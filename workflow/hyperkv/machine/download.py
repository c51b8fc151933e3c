"""Download one file and check what came."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, TypeVar

import pooch
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from ...plugin.lmcache_striped.deadline import Deadline
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
pooch.get_logger().setLevel("WARNING")


def fetch(url: str, digest: str | None, out: Path, algorithm: str = "sha256") -> None:
    """Download `url` to `out`, which appears only when its digest is right (None: whatever comes). Raises UserError.

    It may take a minute, and a second for each 16 KiB that come. What may pass (a connection that is refused, reset or
    too slow, a busy server) is tried again, what stays (no such file, host or right digest) is not. What a killed
    download left is removed by the next.
    """
    known = None if digest is None else f"{algorithm}:{digest}"
    attempted(lambda: _retrieve(url, known, out))


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


def _retrieve(url: str, known: str | None, out: Path) -> None:
    scratch = out.absolute().with_name(f"{out.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        os.replace(pooch.retrieve(url, known, out.name, scratch, downloader=_download), out)
    except (OSError, ValueError, HTTPException) as error:
        kind = PassingError if may_pass(error) else UserError
        reason = str(getattr(error, "reason", error)).rstrip(".")
        raise kind(f"cannot download {url}: {reason}; place the file at {out} yourself to go on") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _download(url: str, target: str, _: object) -> None:
    """Pooch's downloader, with urllib: it reads file:, trusts whom the system trusts, and takes a body as it was sent."""
    deadline = Deadline(_TIMEOUT_S, _MOST_BYTES, bytes_per_s=_LEAST_BYTES_PER_S)
    os.unlink(target)  # pooch's is for its owner alone
    with open(target, "xb") as sink:
        within(deadline, lambda: _copy(url, sink, deadline))


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
