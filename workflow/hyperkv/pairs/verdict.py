"""What passes over the same prompts prove of a pair and a connector. Pure functions.

vLLM at temperature 0 need not give a prompt the same answer computed in one piece and continued from cached KV: other shapes, other
rounding. So the control gives two answers to each prompt, computed and continued from vLLM's own cache, and an answer from a tier is
right when it is one of these, token by token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from operator import eq

from ..records.kinds.pairs import Asked, Verdict


@dataclass(frozen=True)
class Judged:
    """verdict, and in a line why. alike: prompts answered as the control did in every pass. agreed_tokens: of the least alike answer.
    hit_tokens, served_bytes: of the pass that loads."""

    verdict: Verdict
    reason: str
    alike: int
    agreed_tokens: int
    hit_tokens: int
    served_bytes: int | None


def judged_control(passes: Sequence[Asked]) -> Judged:
    """Of an engine without a tier: computed, from its own cache, computed again. Safe when it computes the same twice."""
    first, own, again = passes
    alike, total = _alike(first, [again]), len(first.answers)
    told = f"computed twice: {alike.count(True)} of {total} answers alike; continued from its own cache: "
    return Judged(
        "safe" if all(alike) else "wrong answers",
        told + f"{_alike(first, [own]).count(True)} as computed",
        alike.count(True),
        _agreed([first], again),
        sum(own.cached_tokens),
        None,
    )


def judged(control: Sequence[Asked], passes: Sequence[Asked], token_bytes: int, share_min: float) -> Judged:
    """Of a tier: cold (saved) and warm or from a damaged store (loaded), against the control's passes.

    token_bytes: that the store keeps of a token. share_min: bytes that must be counted for each byte of a hit.
    """
    saving, loading = passes
    right = {each.kind: _alike(each, control) for each in passes}
    hits, served = sum(loading.cached_tokens), loading.served_bytes
    whole = [all(found) for found in zip(*right.values(), strict=True)]
    about = (whole.count(True), min(_agreed(control, each) for each in passes), hits, served)
    if wrong := [
        f"{kind}: {found.count(False)} of {len(found)} answers are not the control's"
        for kind, found in right.items()
        if not all(found)
    ]:
        return Judged("wrong answers", "; ".join(wrong), *about)
    if any(saving.cached_tokens):
        return Judged("no hits", "tokens of new prompts came from a cache, so that nothing is proved", *about)
    if not hits:
        return Judged("no hits", "nothing was found again", *about)
    if served is None or served < share_min * hits * token_bytes:
        counted = "nobody counts bytes" if served is None else f"{served:,} bytes were served"
        told = f"{hits} tokens count as found, of {hits * token_bytes:,} bytes; {counted}"
        return Judged("no hits", told, *about)
    return Judged("safe", f"{hits} of {sum(loading.prompt_tokens)} tokens loaded", *about)


def _alike(asked: Asked, known: Sequence[Asked]) -> list[bool]:
    """Of each prompt whether its answer is one of those that are known."""
    choices = zip(*(each.answers for each in known), strict=True)
    return [answer in right for answer, right in zip(asked.answers, choices, strict=True)]


def _agreed(known: Sequence[Asked], asked: Asked) -> int:
    """Tokens from the beginning in which the least alike answer is one that is known."""
    choices = zip(*(each.answers for each in known), strict=True)
    return min(
        max(sum(takewhile(bool, map(eq, answer, each))) for each in right)
        for answer, right in zip(asked.answers, choices, strict=True)
    )
