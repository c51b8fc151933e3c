"""What the gate is told from outside: the engine's prefill curve in a file, and how many requests wait and are answered, from its metrics."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
import urllib.request
from collections.abc import Callable
from functools import partial

from .cache_settings import CacheSettings
from .errors import UserError, printable
from .gate import OFF, Gate
from .gate_settings import warm_bytes
from .store_work import Load
from .threads import refused

EVERY_S = 0.25
_MOST_SHARE = 0.03  # of the time, for answers of the engine's metrics, which hold up its other answers
_MOST_BYTES = 8 << 20  # of such an answer; vLLM's has some 100 KiB
_QUIET_S = 2.0
_TIMEOUT_S = 1.0
_REQUESTS = re.compile(rb"^vllm:num_requests_(waiting|running)(?:\{[^}]*\})? ([0-9.e+-]+)", re.MULTILINE)
_STATES = (b"waiting", b"running")
_WITHOUT_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class GateFeed:
    """A gate by its settings, and a thread that tells it of curve and queue while lookups come.

    None of both may be there yet, or ever: the gate then goes by what it sees. warn: is told in a line, once, what cannot be read.
    """

    def __init__(
        self,
        settings: CacheSettings,
        chunk_tokens: int,
        tell: Callable[[str], None],
        warn: Callable[[str], None],
        blocking: bool = False,
    ):
        warm = 0 if settings.read == "direct" else warm_bytes()
        own = settings.gate
        self.gate = Gate(
            own.objective,
            chunk_tokens,
            warm_bytes=warm,
            blocking=blocking,
            slo_s=own.slo_s,
            tell=tell,
            warn=warn,
        )
        self._curve, self._metrics = own.curve, own.metrics
        self._warn, self._warned = warn, set[str]()
        self._curve_read: tuple[int, int] | None = None
        self._lookup_s = self._ask_s = float("-inf")
        self._closed = threading.Event()
        self._read_curve()
        self._thread = threading.Thread(target=self._work, name="gate", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise refused(1, error) from error

    @classmethod
    def of(
        cls,
        settings: CacheSettings,
        tell: Callable[[str], None],
        warn: Callable[[str], None],
        chunk_tokens: int | None = None,
        blocking: bool = False,
    ) -> GateFeed | None:
        """None with gate off. chunk_tokens: None takes the settings'. Raises UserError when they are not known."""
        objective, chunk_tokens = settings.gate.objective, chunk_tokens or settings.gate.chunk_tokens
        if objective == OFF:
            return None
        if chunk_tokens is None:
            raise UserError(
                f"gate_chunk_tokens is missing: gate {objective} needs LMCache's chunk size, in tokens"
            )
        return cls(settings, chunk_tokens, tell, warn, blocking)

    def looked_up(self) -> None:
        """A lookup came, so that it is worth asking the engine how many requests wait."""
        self._lookup_s = time.monotonic()

    def loaded(self, waiting: Load, load: Callable[[Callable[[], None]], list[bool]]) -> list[bool]:
        """What `load` found of a load that waits; the gate is told of its turn, when `load` calls what it is given, and of its end."""
        found = [False]
        try:
            found = load(partial(self.gate.load_begins, waiting))
            return found
        finally:
            self.gate.load_ends(waiting, all(found))

    def close(self) -> None:
        """End the thread, as soon as metrics do not keep it; twice is once."""
        self._closed.set()
        self._thread.join(3 * _TIMEOUT_S)

    def _work(self) -> None:
        while not self._closed.wait(EVERY_S):
            self._read_curve()
            begun = time.monotonic()
            if self._metrics is not None and begun - self._lookup_s < _QUIET_S and begun >= self._ask_s:
                self._read_metrics(self._metrics)
                self._ask_s = begun + (time.monotonic() - begun) / _MOST_SHARE

    def _read_curve(self) -> None:
        """Read the file when it is another one than before; none yet is no fault."""
        if self._curve is None:
            return
        try:
            status = self._curve.stat()
            if (version := (status.st_mtime_ns, status.st_size)) == self._curve_read:
                return
            self._curve_read = version
            self.gate.set_curve(json.loads(self._curve.read_text()))
        except FileNotFoundError:
            if self._lookup_s > float("-inf"):
                self._say(f"gate_curve: {self._curve} is not there")
        except (OSError, ValueError, RecursionError, UserError) as error:
            self._say(f"gate_curve: {self._curve} is not read: {error}")

    def _read_metrics(self, address: str) -> None:
        try:
            with _WITHOUT_PROXY.open(address, timeout=_TIMEOUT_S) as answer:
                found = _REQUESTS.findall(_page(answer))
            waiting, running = (
                [round(float(count)) for state, count in found if state == word] for word in _STATES
            )
        except (OSError, ValueError, OverflowError, http.client.HTTPException) as error:
            self._say(f"gate_metrics: {address} is not read: {error}")
            return
        self.gate.engine_runs(sum(running))
        if waiting:
            self.gate.engine_waits(sum(waiting))
        else:
            self._say(f"gate_metrics: {address} has no vllm:num_requests_waiting")

    def _say(self, line: str) -> None:
        line = printable(line)
        if line not in self._warned and len(self._warned) < 100:
            self._warned.add(line)
            self._warn(line)


def _page(answer: http.client.HTTPResponse) -> bytes:
    """What is answered, in all within _TIMEOUT_S once it has begun. Raises TimeoutError, ValueError when it is too long."""
    page, end_s = bytearray(), time.monotonic() + _TIMEOUT_S
    while part := answer.read1(1 << 16):
        page += part
        if time.monotonic() > end_s:
            raise TimeoutError("the answer does not end")
        if len(page) > _MOST_BYTES:
            raise ValueError(f"the answer has more than {_MOST_BYTES >> 20} MiB")
    return bytes(page)
