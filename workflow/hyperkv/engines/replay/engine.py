"""Engine `replay`: real stores and real bytes, modelled GPU time; no GPU needed.

The timing model
================
Time is virtual. Two resources advance it, each doing one thing at a time:

* the **GPU**, in steps as vLLM schedules them: every request that decodes gets one token, the rest of `max_num_batched_tokens` goes to
  prompts in the order in which they became ready. `GpuModel.step_s` says how long a step takes; its figures were measured (config/gpus).
* the **channel** between the engine and the tiers below HBM, one load or save at a time. Each is executed for real, on this machine, when
  its virtual turn comes; the wall time it took, plus the modelled copy to or from the GPU, is its virtual time. Loads go before saves.

A request arrives, waits for HBM blocks for its whole context and answer, takes its longest prefix from HBM, then its longest further prefix
of whole chunks from the tiers (one lookup and load on the channel), computes the rest, emits its first token at the end of the step that
computes the last prompt token, then one token a step. The last prompt token is always computed. After the first token the prompt's new
whole chunks are saved, after the last token those of the answer (`save_decode_cache`). A save waits in a staging pool of `staging_bytes`;
while it is full the GPU starts no step (`staging_full: wait`) or the chunk is not saved (`drop`). What is still in it is not found.

With a gate (gating.py) the lookup is made when the request has its blocks (with `like_vllm` before), beside what the channel
does: what it finds waits for the channel, and without anything worth loading the prompt is computed at once, by a step that begins when the lookup
is answered. Chunks that were left are read now and then while the channel is idle, as the gate wants it.

Several engines (clients.py) have a GPU, HBM and pools each, and **one channel** together: loads and saves of all of them go one at
a time, in turn, so that the store below is never faster than it was measured.

What it cannot say: anything about loads that a real engine would run at once, its CPU time, or a GPU whose figures were scaled, not measured.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from ...models.gpu import GpuModel
from .gating import Gating
from .hbm import HbmCache
from .request import KeyedConversation, ReplaySettings, Request, Totals, VirtualClock, share_out
from .tiers import Load, Tiers


class ReplayEngine:
    """One engine, which clients.py gives its requests and its turns. See the module's text for the timing model.

    conversations: what it may be asked, by the keys that its KV has below HBM. tiers: None recomputes everything HBM lost.
    gating: decides what a lookup finds; None finds all. clock: whose time it is. answered: is told of every request that is over.
    """

    def __init__(
        self,
        conversations: Sequence[KeyedConversation],
        gpu: GpuModel,
        settings: ReplaySettings,
        tiers: Tiers | None,
        gating: Gating | None,
        clock: VirtualClock,
    ):
        settings.require_room(conversations, None if tiers is None else tiers.chunk_bytes)
        self._settings = settings
        self._gpu = gpu
        self._tiers = tiers
        self._hbm = HbmCache(settings.hbm_blocks, settings.prefix_caching)
        self._conversations = conversations
        self.answered: Callable[[Request], None] = lambda _: None
        self._waiting: deque[Request] = deque()
        self._to_load: deque[Request] = deque()
        self._prefilling: deque[Request] = deque()
        self._decoding: list[Request] = []
        self._saves: deque[list[bytes]] = deque()
        self._unstaged: deque[bytes] = deque()
        self._staged_bytes = 0
        self._unsaved: set[bytes] = set()
        self._began_s = self._ended_s = -1.0
        self._clock, self._gating = clock, gating
        self._looked_s = 0.0
        self._step: tuple[float, list[tuple[Request, int]], list[Request]] | None = None
        self._transfer: tuple[float, Request | None, Load | None, list[bytes]] | None = None
        self._stalled_since: float | None = None
        self.totals = Totals()

    @property
    def _now(self) -> float:
        return self._clock.now_s

    @property
    def transferring(self) -> bool:
        """Whether it has the channel."""
        return self._transfer is not None

    @property
    def ends_s(self) -> Iterator[float]:
        """When what it does now ends: its transfer, its step, what its tiers do for it and what a text takes."""
        if self._tiers is not None:
            yield self._tiers.next_s
        yield from (each.known_s for each in self._waiting if each.known_s > self._now)
        yield from (item[0] for item in (self._transfer, self._step) if item is not None)

    def ask(self, number: int, turn: int, client: int) -> Request:
        """A client sends a turn of a conversation, by its number."""
        request = Request.of(self._conversations[number], turn, client, self._now, self._settings)
        self._waiting.append(request)
        return request

    def end_transfer(self) -> None:
        """End the transfer whose time has come, if there is one."""
        if self._tiers is not None:
            self._tiers.go_on()
        if self._transfer is not None and self._transfer[0] == self._now:
            self._end_transfer()

    def end_step(self) -> None:
        """End the step whose time has come, if there is one."""
        if self._step is not None and self._step[0] == self._now:
            self._end_step()

    def admit(self) -> None:
        """Take in what waits, as far as there are HBM blocks for it."""
        settings = self._settings
        if self._gating is not None and settings.like_vllm and not settings.prefix_caching:
            for waiting in filter(self._is_due, self._waiting):
                if waiting.fetch is None and waiting.loadable(settings.chunk_tokens):
                    self._look(self._gating, waiting)
        while self._in_flight() < settings.max_num_seqs and (request := self._next_due()) is not None:
            total = request.prompt_tokens + request.answer_tokens
            allocation = self._hbm.allocate(
                request.block_keys,
                (request.prompt_tokens - 1) // settings.block_tokens,
                -(-total // settings.block_tokens),
            )
            if allocation is None:
                return
            self._waiting.remove(request)
            request.allocation = allocation
            request.admitted_s = self._now
            request.hbm_hit_tokens = request.context_tokens = allocation.hit_blocks * settings.block_tokens
            request.saved_chunks = request.context_tokens // settings.chunk_tokens
            if self._tiers is None or not request.loadable(settings.chunk_tokens):
                self._ready(request)
                continue
            if self._gating is not None and request.fetch is None:
                self._look(self._gating, request)
            if settings.like_vllm or request.fetch is None or any(request.fetch.found):
                self._to_load.append(request)
            else:
                self._looked_s += request.load_s
                self._ready(request)

    def _next_due(self) -> Request | None:
        """The next that may be taken in: what its tiers still load for it does not hold up those behind it."""
        found = (each for each in self._waiting if each.fetch is None or each.fetch.ready)
        return next(filter(self._is_due, found), None)

    def _is_due(self, request: Request) -> bool:
        """Whether a request that waits has been considered: with like_vllm when a step was planned that had room for it."""
        if not self._settings.like_vllm or not (self._step or self._prefilling or self._decoding):
            return request.known_s <= self._now
        planned_s = self._now if self._step is None else self._began_s
        left = sum(request.prompt_tokens - request.context_tokens for request in self._prefilling)
        return request.known_s <= planned_s and left < 2 * self._settings.max_num_batched_tokens

    def _look(self, gating: Gating, request: Request) -> None:
        keys = request.loadable(self._settings.chunk_tokens)
        request.load_s = gating.look(request, keys, len(self._decoding)).seconds

    def _in_flight(self) -> int:
        loading = self._transfer is not None and self._transfer[1] is not None
        return len(self._to_load) + loading + len(self._prefilling) + len(self._decoding)

    def _ready(self, request: Request) -> None:
        request.loaded_s = self._now
        self._prefilling.append(request)

    def begin_load(self) -> bool:
        """Take the channel for a load, if one waits that may begin."""
        request = next((each for each in self._to_load if each.fetch is None or each.fetch.ready), None)
        if request is None:
            return False
        assert self._tiers is not None
        self._to_load.remove(request)
        keys = request.loadable(self._settings.chunk_tokens)
        load = self._tiers.load(keys) if self._gating is None else self._gating.load(request, keys)
        *_, of_store = load.by_tier.values()
        size = load.present * self._tiers.chunk_bytes
        seconds = request.load_s + load.seconds + self._gpu.copy_s(size)
        request.load_s, request.loaded_bytes = seconds, of_store * self._tiers.chunk_bytes
        self.totals.load_s += seconds
        self._transfer = (self._now + seconds, request, load, [])
        return True

    def begin_probe(self) -> bool:
        """Take the channel to read what the gate wants to know, if it does, beside a step."""
        if self._gating is None or self._step is None or not (seconds := self._gating.probe()):
            return False
        self._transfer = (self._now + seconds, None, None, [])
        return True

    def begin_save(self) -> bool:
        """Take the channel for a save, if one waits."""
        if not self._saves:
            return False
        assert self._tiers is not None
        keys = self._saves.popleft()
        size = len(keys) * self._tiers.chunk_bytes
        seconds = self._tiers.save(keys) + self._gpu.copy_s(size)
        self.totals.save_s += seconds
        self.totals.saved_bytes += size
        self._transfer = (self._now + seconds, None, None, keys)
        if self._gating is not None:
            self._gating.saves_until(self._now + seconds)
        return True

    def _end_transfer(self) -> None:
        assert self._transfer is not None
        _, request, load, saved = self._transfer
        self._transfer = None
        if request is not None and load is not None:
            if self._gating is not None:
                self._gating.ended(request, load)
            self._apply_load(request, load)
            self._ready(request)
        elif self._gating is not None and not saved:
            self._gating.probed()
        elif self._tiers is not None:
            self._unsaved.difference_update(saved)
            self._staged_bytes -= len(saved) * self._tiers.chunk_bytes
            self._stage()

    def _apply_load(self, request: Request, load: Load) -> None:
        self.totals.corrupt_chunks += load.corrupt
        request.take(load, self._settings.chunk_tokens)
        assert request.allocation is not None
        self._hbm.commit(request.allocation, request.context_tokens // self._settings.block_tokens)

    def begin_step(self) -> None:
        """Begin a step if none is under way and there is something to compute."""
        if self._step is not None:
            return
        if self._unstaged:
            if self._stalled_since is None and (self._prefilling or self._decoding):
                self._stalled_since = self._now
            return
        if self._stalled_since is not None:
            self.totals.save_stall_s += self._now - self._stalled_since
            self._stalled_since = None
        budget = self._settings.max_num_batched_tokens - len(self._decoding)
        ahead = self._settings.like_vllm and self._ended_s == self._now
        prefills = share_out(self._prefilling, budget, self._began_s if ahead else self._now)
        if not (prefills or self._decoding):
            prefills = share_out(self._prefilling, budget, self._now)
        if not (prefills or self._decoding):
            return
        self._began_s = self._now
        seconds = self._gpu.step_s(
            [(new, request.context_tokens) for request, new in prefills],
            [request.context_tokens for request in self._decoding],
        )
        self.totals.steps += 1
        self.totals.gpu_busy_s += seconds
        looked_s, self._looked_s = self._looked_s, 0.0
        self._step = (self._now + looked_s + seconds, prefills, list(self._decoding))
        if self._tiers is not None:
            for request, new in [*prefills, *((each, 1) for each in self._decoding)]:
                self._tiers.computing(request.completed(new, self._settings))

    def _end_step(self) -> None:
        assert self._step is not None
        _, prefills, decodes = self._step
        self._step, self._ended_s = None, self._now
        for request, new in prefills:
            request.context_tokens += new
            request.computed_tokens += new
            if not request.in_prefill:
                self._prefilling.remove(request)
                self._first_token(request)
            elif self._settings.like_vllm:
                self._commit_and_save(request, request.context_tokens)
        for request in decodes:
            request.context_tokens += 1
            request.generated_tokens += 1
            if request.generated_tokens == request.answer_tokens:
                self._decoding.remove(request)
                self._finish(request)

    def _first_token(self, request: Request) -> None:
        request.first_token_s = self._now
        request.generated_tokens = 1
        self._commit_and_save(request, request.prompt_tokens)
        if request.answer_tokens == 1:
            self._finish(request)
        else:
            self._decoding.append(request)

    def _finish(self, request: Request) -> None:
        """The KV of the last generated token is never computed, hence context_tokens without it."""
        request.finish_s = self._now
        computed = request.context_tokens
        kept = computed if self._settings.save_decode_cache else request.prompt_tokens
        self._commit_and_save(request, kept)
        if self._tiers is not None:
            self._tiers.answered(request.chunk_keys[: computed // self._settings.chunk_tokens])
        assert request.allocation is not None
        self._hbm.commit(request.allocation, computed // self._settings.block_tokens)
        self._hbm.release(request.allocation)
        self.answered(request)

    def _commit_and_save(self, request: Request, tokens: int) -> None:
        assert request.allocation is not None
        self._hbm.commit(request.allocation, tokens // self._settings.block_tokens)
        if self._tiers is None:
            return
        upto = tokens // self._settings.chunk_tokens
        computed = request.chunk_keys[request.saved_chunks : upto]
        if self._gating is not None:
            computed = self._gating.unsaved(computed)
        fresh = [key for key in computed if key not in self._unsaved]
        request.saved_chunks = max(request.saved_chunks, upto)
        self._unsaved.update(fresh)
        self._unstaged.extend(fresh)
        self._stage()

    def _stage(self) -> None:
        """Move what fits into the staging pool as one save; drop the rest when that is the policy."""
        assert self._tiers is not None
        room = (self._settings.staging_bytes - self._staged_bytes) // self._tiers.chunk_bytes
        batch = [self._unstaged.popleft() for _ in range(min(room, len(self._unstaged)))]
        if batch:
            self._staged_bytes += len(batch) * self._tiers.chunk_bytes
            self._saves.append(batch)
        if self._settings.staging_full == "drop":
            self.totals.dropped_chunks += len(self._unstaged)
            self._unsaved.difference_update(self._unstaged)
            self._unstaged.clear()
