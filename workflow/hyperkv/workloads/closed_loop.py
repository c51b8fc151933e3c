"""How closed-loop clients send a workload's conversations.

N clients share the active conversations evenly. A client sends one request at a time: a turn of one of its conversations,
then, as soon as the answer is there, a turn of the next, round and round; one that is over makes room for a new one. Source:
vLLM's benchmark_serving_multi_turn.py, --num-clients and --max-active-conversations.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class ClosedLoop:
    """What each client sends next, as (conversation, turn). turns: of every conversation, how many it has.

    active_conversations: how many are under way at once, at least one per client.
    """

    def __init__(self, turns: Sequence[int], clients: int, active_conversations: int):
        self._turns = turns
        self._backlog = deque(range(len(turns)))
        self._rotations: list[deque[tuple[int, int]]] = [deque() for _ in range(clients)]
        self._sent = [(0, 0)] * clients
        for number in range(min(max(clients, active_conversations), len(turns))):
            self._rotations[number % clients].append((self._backlog.popleft(), 0))

    def send(self, client: int) -> tuple[int, int] | None:
        """What the client sends now; None when it has nothing left."""
        if not self._rotations[client]:
            return None
        self._sent[client] = self._rotations[client].popleft()
        return self._sent[client]

    def answered(self, client: int) -> None:
        """What it sent last was answered: the conversation's next turn, or a new conversation, comes last in its rotation."""
        conversation, turn = self._sent[client]
        if turn + 1 < self._turns[conversation]:
            self._rotations[client].append((conversation, turn + 1))
        elif self._backlog:
            self._rotations[client].append((self._backlog.popleft(), 0))
