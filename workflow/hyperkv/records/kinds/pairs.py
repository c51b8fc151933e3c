"""Records of the observatory: one pair of vLLM and LMCache with one connector."""

from __future__ import annotations

from typing import Annotated, Literal

from .record import Bytes, Count, Name, OfOneFile, Part, Text, Tokens, Unit

Kind = Literal["computed", "own cache", "cold", "warm", "swapped", "inverted"]
Damage = Literal["swapped", "inverted"]
Verdict = Literal["safe", "wrong answers", "no hits", "does not start", "not tried"]


class Asked(Part):
    """The same prompts once more, one at a time, at temperature 0. served_bytes: by the store, else read from the block device by
    the engine's processes; null where neither tells. answers: the words of each answer's tokens.
    """

    kind: Kind
    prompt_tokens: list[int]
    cached_tokens: list[int]
    served_bytes: Bytes | None
    answers: list[list[str]]


class Tried(OfOneFile):
    """One connector of one pair, against what the same pair answers without a tier."""

    record: Literal["tried"] = "tried"
    pair: Name
    """Versions of vLLM and LMCache (pairs.tried)."""
    scenario: Name
    """Scenario, a complete configuration."""
    connector: Annotated[str | None, Unit("word")]
    """How the engine reaches the store; empty for the control, which has none."""
    store: Annotated[str | None, Unit("word")]
    """What holds KV."""
    vllm: Annotated[str | None, Unit("name")]
    """Version of vLLM that was imported; empty when none was."""
    lmcache: Annotated[str | None, Unit("name")]
    """Version of LMCache; empty when none was imported."""
    torch: Annotated[str | None, Unit("name")]
    """Version of torch."""
    damage: Annotated[Damage | None, Unit("word")]
    """How the store was made wrong on purpose between saving and loading, empty for not: swapped, values that are well formed changed
    places; inverted, of every value the second half of its bytes. It must not be safe with hits."""
    verdict: Annotated[Verdict, Unit("word")]
    """safe: every answer is the control's, token by token, with hits and their bytes proved. wrong answers: not every one. no hits:
    right answers, and nothing, or nothing that is proved, came from the tier. does not start: an engine or server did not, or died.
    not tried: its environment could not be made."""
    reason: Text
    """Why."""
    prompts: Count
    """Prompts that were asked, each again in every pass."""
    alike: Annotated[int | None, Unit("prompts")]
    """Of them those whose answers were the control's in every pass."""
    answer_tokens: Tokens
    """Tokens of each answer."""
    agreed_tokens: Annotated[int | None, Unit("tokens")]
    """Tokens from the beginning in which the least alike answer is the control's."""
    prompt_tokens: Annotated[int | None, Unit("tokens")]
    """Tokens of all prompts."""
    hit_tokens: Annotated[int | None, Unit("tokens")]
    """Of them those that vLLM says it did not compute in the pass that loads."""
    served_bytes: Annotated[int | None, Unit("bytes")]
    """Bytes that the store served in that pass, or that were read from the block device for it; empty where nobody counts them."""
    passes: list[Asked]
    measured_at: Annotated[str, Unit("UTC time")]
    """When."""
