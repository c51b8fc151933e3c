"""The working set: what a cell's requests make a store keep, equal prefixes counted once.

Definition: the distinct whole chunks of the contexts that are saved. A context is saved up to its prompt's end, with
save_decode_cache up to its answer's last token but one (no engine computes the KV of the last). Two chunks are one when
all tokens up to their ends are equal, as the chained keys of chunks.py have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush

from . import Conversation
from .chunks import chain_keys
from .prefix_tree import as_they_are
from .reuse import reuse_of


def working_set_units(
    conversations: Sequence[Conversation], unit_tokens: int, save_decode_cache: bool
) -> int:
    """Distinct whole units (chunks, or an engine's blocks) of `unit_tokens` tokens in the saved contexts."""
    return reuse_of(conversations, as_they_are(conversations), save_decode_cache).units(unit_tokens)


def working_set(
    conversations: Sequence[Conversation], unit_bytes: int, unit_tokens: int, save_decode_cache: bool
) -> int:
    """Bytes of KV of the working set (see the module): what an unbounded store with such chunks keeps in the end.

    unit_bytes: of one unit as it is kept there, copies on several GPUs included (gpus.KvShare).

    The store of one cell of engine replay keeps that of its workload, the store of a job of engine vllm the sum over the
    loads, whose conversations have different tokens. HBM must hold the working set of a single conversation at the least,
    a partly filled block counted whole (largest_context).
    """
    return working_set_units(conversations, unit_tokens, save_decode_cache) * unit_bytes


def least_shared(conversations: Sequence[Conversation], count: int, unit_tokens: int) -> list[Conversation]:
    """So many of them, each next one of which adds the most units of tokens to those before: what clients may ask for at once at the most."""
    keys = [set(chain_keys(each.tokens, unit_tokens)) for each in conversations]
    most = [
        (-len(own), number) for number, own in enumerate(keys)
    ]  # what one adds never grows, so a bound of before will do
    heapify(most)
    taken: set[bytes] = set()
    found: list[Conversation] = []
    while most and len(found) < count:
        _, number = heappop(most)
        adds = len(keys[number] - taken)
        if most and -adds > most[0][0]:
            heappush(most, (-adds, number))
            continue
        taken |= keys[number]
        found.append(conversations[number])
    return found


def largest_context(
    conversations: Iterable[Conversation], unit_bytes: int, unit_tokens: int, answers: bool = True
) -> int:
    """Bytes of the longest context, with its last answer or without, in units the last of which may be partly filled."""
    longest = max(
        conversation.turns[-1].answer_end if answers else conversation.turns[-1].prompt_end
        for conversation in conversations
    )
    return -(-longest // unit_tokens) * unit_bytes
