"""The working set: what a cell's requests make a store keep, equal prefixes counted once.

Definition: the distinct whole chunks of the contexts that are saved. A context is saved up to its prompt's end, with
save_decode_cache up to its answer's last token but one (no engine computes the KV of the last). Two chunks are one when
all tokens up to their ends are equal, as the chained keys of chunks.py have it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from . import Conversation


def working_set_units(
    conversations: Iterable[Conversation], unit_tokens: int, save_decode_cache: bool
) -> int:
    """Distinct whole units (chunks, or an engine's blocks) of `unit_tokens` tokens in the saved contexts.

    One pass over the contexts' parts, without drawing tokens; prefix_tree has the same parts with all of their cuts.
    """
    names: dict[tuple[int, int, Hashable], int] = {}
    starts, reached = [0], [0]
    for conversation in conversations:
        last = conversation.turns[-1]
        saved = last.answer_end - 1 if save_decode_cache else last.prompt_end
        at, part = 0, 0
        for identity, end in conversation.parts:
            if at >= saved:
                break
            key = (part, at, identity)
            part = names.get(key, 0)
            if not part:
                part = names[key] = len(starts)
                starts.append(at)
                reached.append(at)
            at = min(end, saved)
            reached[part] = max(reached[part], at)
    return sum(end // unit_tokens - start // unit_tokens for start, end in zip(starts, reached, strict=True))


def working_set(
    conversations: Iterable[Conversation], unit_bytes: int, unit_tokens: int, save_decode_cache: bool
) -> int:
    """Bytes of KV of the working set (see the module): what an unbounded store with such chunks keeps in the end.

    unit_bytes: of one unit as it is kept there, copies on several GPUs included (gpus.KvShare).

    The store of one cell of engine replay keeps that of its workload, the store of a job of engine vllm the sum over the
    loads, whose conversations have different tokens. HBM must hold the working set of a single conversation at the least,
    a partly filled block counted whole (largest_context).
    """
    return working_set_units(conversations, unit_tokens, save_decode_cache) * unit_bytes


def largest_context(
    conversations: Iterable[Conversation], unit_bytes: int, unit_tokens: int, answers: bool = True
) -> int:
    """Bytes of the longest context, with its last answer or without, in units the last of which may be partly filled."""
    longest = max(
        conversation.turns[-1].answer_end if answers else conversation.turns[-1].prompt_end
        for conversation in conversations
    )
    return -(-longest // unit_tokens) * unit_bytes
