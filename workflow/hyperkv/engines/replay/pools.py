"""Which chunks a pool in host memory holds, and which of them go. No bytes, and no time but a clock's."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice

# LMCache 0.5.6: EvictionConfig.trigger_watermark and eviction_ratio, L1EvictionController.eviction_loop.
WATERMARK, RATIO, PERIOD_S = 0.8, 0.2, 1.0


def leading(keys: Sequence[bytes], held: Callable[[bytes], bool]) -> int:
    """How many leading keys are held."""
    return next((number for number, key in enumerate(keys) if not held(key)), len(keys))


class LruPool:
    """The ideal: what was used least recently makes room, chunk by chunk and at once. Of a prompt the last chunk goes first.

    most: chunks that it holds.
    """

    def __init__(self, most: int):
        self._most = most
        self._read_until_s: OrderedDict[bytes, float] = (
            OrderedDict()
        )  # by chunk, the one that goes next first

    def leading(self, keys: Sequence[bytes]) -> int:
        """How many leading chunks can be read."""
        return leading(keys, self.holds)

    def holds(self, key: bytes) -> bool:
        """Whether a chunk can be read."""
        return key in self._read_until_s

    def use(self, keys: Sequence[bytes]) -> None:
        """Chunks of one prompt were used, its first one last."""
        for key in reversed(keys):
            if key in self._read_until_s:
                self._read_until_s.move_to_end(key)

    def done(self, keys: Sequence[bytes]) -> None:
        """A request of these chunks is over."""
        self.use(keys)

    def reserve(self, keys: Sequence[bytes]) -> None:
        """Chunks of one prompt are about to be saved."""

    def admit(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        """They are saved: those that had room, and so pass on to a store."""
        self._insert(keys)
        while len(self._read_until_s) > self._most:
            self._read_until_s.popitem(last=False)
        return keys

    def read(self, keys: Sequence[bytes], until_s: float) -> None:
        """Chunks are read until then, and stay so long."""
        for key in keys:
            if key in self._read_until_s:
                self._read_until_s[key] = max(self._read_until_s[key], until_s)

    def hold(self, keys: Sequence[bytes]) -> None:
        """Chunks that it has stay."""

    def let_go(self, keys: Sequence[bytes], at_s: float) -> None:
        """Once less, since then."""

    def take(self, keys: Sequence[bytes]) -> bool:
        """Chunks are to be loaded from a store; False where there is no room for them."""
        self.admit(keys)
        return True

    def taken_until(self, chunks: int, until_s: float) -> None:
        """So many of these are in use until then."""

    def _insert(self, keys: Sequence[bytes]) -> None:
        for key in reversed(keys):
            self._read_until_s.setdefault(key, 0.0)
            self._read_until_s.move_to_end(key)


class ServerPool(LruPool):
    """The pool (L1) of LMCache 0.5.6's server.

    Once a second, where `watermark` of its room is taken, a fifth of its chunks go: those used least recently that nobody reads or saves.
    Nothing else makes room. What is saved takes its room when it is reserved, all that is not there or nothing. What comes from a store takes room
    while it is loaded, and goes then. since_s: of the clock, when it last looked. left: chunks that are there to begin with, which nobody asks for.
    """

    def __init__(
        self,
        most: int,
        clock: Callable[[], float],
        watermark: float = WATERMARK,
        since_s: float = 0.0,
        left: int = 0,
    ):
        super().__init__(most)
        self._read_until_s.update({b"left %d" % number: 0.0 for number in range(left)})
        self._clock, self._watermark, self._looked_s = clock, watermark, since_s
        self._coming: set[bytes] = set()
        self._held: Counter[bytes] = Counter()
        self._coming_chunks = 0
        self._loading: list[tuple[float, int]] = []

    def leading(self, keys: Sequence[bytes]) -> int:
        self._go_on()
        return super().leading(keys)

    def holds(self, key: bytes) -> bool:
        return super().holds(key) and key not in self._coming

    def use(self, keys: Sequence[bytes]) -> None:
        self._go_on()
        super().use(keys)

    def done(self, keys: Sequence[bytes]) -> None:
        self._coming.difference_update(keys)  # those that a gate has left, and the store has
        self.use(keys)

    def reserve(self, keys: Sequence[bytes]) -> None:
        self._go_on()
        fresh = [key for key in keys if key not in self._read_until_s]
        if self._has_room(len(fresh)):
            self._insert(fresh)
            self._coming.update(fresh)

    def admit(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        came = [key for key in keys if key in self._coming]
        self._coming.difference_update(came)
        self.use(came)
        return came

    def hold(self, keys: Sequence[bytes]) -> None:
        self._go_on()
        self._held.update(keys)

    def let_go(self, keys: Sequence[bytes], at_s: float) -> None:
        self._go_on(at_s)
        self._held.subtract(keys)

    def take(self, keys: Sequence[bytes]) -> bool:
        self._go_on()
        if not self._has_room(len(keys)):
            return False
        self._coming_chunks += len(keys)
        return True

    def taken_until(self, chunks: int, until_s: float) -> None:
        self._go_on()
        self._coming_chunks -= chunks
        self._loading.append((until_s, chunks))

    def _has_room(self, chunks: int) -> bool:
        return self._taken(self._clock()) + chunks <= self._most

    def _taken(self, now_s: float) -> int:
        self._loading = [each for each in self._loading if each[0] > now_s]
        return len(self._read_until_s) + self._coming_chunks + sum(chunks for _, chunks in self._loading)

    def _go_on(self, until_s: float | None = None) -> None:
        """Do what was due since it was last asked."""
        now_s = self._clock() if until_s is None else until_s
        while self._looked_s + PERIOD_S <= now_s:
            self._looked_s += PERIOD_S
            taken = self._taken(self._looked_s)
            if taken and taken >= self._watermark * self._most:
                self._evict(max(1, int(taken * RATIO)))

    def _evict(self, chunks: int) -> None:
        idle = (
            key
            for key, until_s in self._read_until_s.items()
            if until_s <= self._looked_s and key not in self._coming and not self._held[key]
        )
        for key in list(islice(idle, chunks)):
            del self._read_until_s[key]
