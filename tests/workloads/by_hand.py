"""A tier as a dictionary of chained keys, which simulations are held against."""

from collections import Counter, OrderedDict

from workflow.hyperkv.workloads.chunks import chain_keys


def held_and_written(conversations, order, decode, chunk, capacity, uses) -> list[tuple[int, int]]:
    """Leading chunks held when each request comes, and chunks written behind it, one chunk and one byte string at a time."""
    tokens = [conversation.tokens for conversation in conversations]
    cache: OrderedDict[bytes, None] = OrderedDict()
    used: Counter[bytes] = Counter()
    found = []
    for index, turn in order.requests:
        position = conversations[index].turns[turn]
        keys = chain_keys(tokens[index][: position.answer_end - 1 if decode else position.prompt_end], chunk)
        held = [key in cache for key in keys]
        used.update(keys)
        saved = [key for key in keys if used[key] >= uses]
        written = sum(key not in cache for key in saved)
        found.append((held.index(False) if False in held else len(held), written))
        for key in reversed(saved):
            cache[key] = None
            cache.move_to_end(key)
        while capacity is not None and len(cache) > capacity:
            cache.popitem(last=False)
    return found
