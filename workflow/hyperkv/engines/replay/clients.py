"""The clients of engine `replay`, before one engine or several.

N clients share the active conversations (workloads/closed_loop.py). The measured window ends when a client has nothing left to
send: requests that arrived in it are the cell's samples, and its length is the time in RPS/GPU. In an open loop every conversation
has a client of its own, who begins by the clock, and the window ends with the last request's arrival.

Several engines have one time, one channel to the tiers, which they take in turn, and one set of clients. A conversation stays with the
engine that its number gives it, one after the other; or every request goes to the engine that a hash of its conversation and turn
gives it, the same in every scenario.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from hashlib import blake2b

from ...models.gpu import GpuModel
from ...workloads.closed_loop import ClosedLoop
from .engine import ReplayEngine
from .gating import Gating
from .request import KeyedConversation, ReplayResult, ReplaySettings, Request, Totals, VirtualClock
from .tiers import Tiers

Route = Callable[[int, int], int]  # number of the conversation and turn -> number of the engine


def by_conversation(engines: int) -> Route:
    """A conversation stays with its engine."""
    return lambda conversation, turn: conversation % engines


def by_request(engines: int) -> Route:
    """Every request goes to any engine."""

    def route(conversation: int, turn: int) -> int:
        digest = blake2b(f"{conversation}/{turn}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") % engines

    return route


def replay(
    conversations: Sequence[KeyedConversation],
    clients: int,
    gpu: GpuModel,
    settings: ReplaySettings,
    tiers: Tiers | None,
    active_conversations: int | None = None,
    gating: Gating | None = None,
    clock: VirtualClock | None = None,
    think_s: Callable[[int], float] | None = None,
    begins_s: Sequence[float] | None = None,
) -> ReplayResult:
    """Serve every turn of every conversation by one engine; see Clients and ReplayEngine."""
    clock = clock or VirtualClock()
    engine = ReplayEngine(conversations, gpu, settings, tiers, gating, clock)
    turns = [len(item.conversation.turns) for item in conversations]
    return Clients([engine], turns, clients, clock, active_conversations, think_s, begins_s=begins_s).run()


class Clients:
    """Clients that have every turn of every conversation served.

    turns: of each conversation how many. active_conversations: how many are under way at once, at least one per client; None for
    exactly one. think_s: seconds between an answer and the next request of a client; None for none. route: None for one engine.
    begins_s: when each conversation begins in an open loop, ascending; clients and active_conversations say nothing then. None for a closed one.
    """

    def __init__(
        self,
        engines: Sequence[ReplayEngine],
        turns: Sequence[int],
        clients: int,
        clock: VirtualClock,
        active_conversations: int | None = None,
        think_s: Callable[[int], float] | None = None,
        route: Route | None = None,
        begins_s: Sequence[float] | None = None,
    ):
        clients, active_conversations = (len(turns), None) if begins_s else (clients, active_conversations)
        self._engines, self._clients, self._clock = engines, clients, clock
        self._loop = ClosedLoop(turns, clients, active_conversations or clients)
        self._begins_s = begins_s
        self._think_s, self._route = think_s, route or by_conversation(len(engines))
        self._thinking: list[tuple[float, int]] = []
        self._requests: list[Request] = []
        self._window_s: float | None = None
        self._next = 0
        for engine in engines:
            engine.answered = self._answered

    def run(self) -> ReplayResult:
        """Serve them all."""
        if self._begins_s:
            self._thinking = [(at_s, client) for client, at_s in enumerate(self._begins_s)]
        else:
            for client in range(self._clients):
                self._think(client)
        while (next_s := self._begin_work()) < math.inf:
            self._clock.now_s = next_s
            while self._thinking and self._thinking[0][0] == self._clock.now_s:
                self._send_next(heapq.heappop(self._thinking)[1])
            for engine in self._engines:
                engine.end_transfer()
            for engine in self._engines:
                engine.end_step()
        window = self._clock.now_s if self._window_s is None else self._window_s
        if self._begins_s:
            window = self._requests[-1].arrival_s
        return ReplayResult(self._requests, window, Totals.of(engine.totals for engine in self._engines))

    def _begin_work(self) -> float:
        """Give idle resources something to do; when something ends first, infinity when nothing is left."""
        for engine in self._engines:
            engine.admit()
        if not any(engine.transferring for engine in self._engines):
            self._give_channel()
        for engine in self._engines:
            engine.begin_step()
        ends = (end for engine in self._engines for end in engine.ends_s)
        return min((*ends, *(at for at, _ in self._thinking[:1])), default=math.inf)

    def _give_channel(self) -> None:
        """To the next engine that has a load, else to one that has something else for it."""
        in_turn = [*self._engines[self._next :], *self._engines[: self._next]]
        for begin in (ReplayEngine.begin_load, ReplayEngine.begin_probe, ReplayEngine.begin_save):
            for engine in in_turn:
                if begin(engine):
                    self._next = (self._engines.index(engine) + 1) % len(self._engines)
                    return

    def _think(self, client: int) -> None:
        """The client sends its next request, at once or after a while."""
        if self._think_s is None:
            self._send_next(client)
        else:
            heapq.heappush(self._thinking, (self._clock.now_s + self._think_s(client), client))

    def _send_next(self, client: int) -> None:
        """Send the turn that is next in the client's rotation; without one, the measured window is over."""
        if (sent := self._loop.send(client)) is not None:
            engine = self._engines[self._route(*sent)]
            self._requests.append(engine.ask(*sent, client))
        elif self._window_s is None:
            self._window_s = self._clock.now_s

    def _answered(self, request: Request) -> None:
        self._loop.answered(request.client)
        self._think(request.client)
