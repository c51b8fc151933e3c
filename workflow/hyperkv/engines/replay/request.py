"""What engine `replay` is given and what it tells: its settings, keyed conversations, requests and totals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...workloads import Conversation
from .hbm import Allocation


@dataclass(frozen=True)
class ReplaySettings:
    """The engine's own settings; sizes in tokens and bytes.

    block_tokens: HBM block. hbm_blocks: KV capacity of HBM. chunk_tokens: a multiple of block_tokens.
    staging_bytes: pool for saves. staging_full: "wait" or "drop".
    """

    block_tokens: int
    hbm_blocks: int
    chunk_tokens: int
    max_num_batched_tokens: int
    max_num_seqs: int
    staging_bytes: int
    staging_full: str = "wait"
    save_decode_cache: bool = True
    prefix_caching: bool = True


@dataclass(frozen=True)
class KeyedConversation:
    """A conversation with the chained keys of its full HBM blocks (see chunks.chain_keys)."""

    conversation: Conversation
    block_keys: Sequence[bytes]


@dataclass
class Request:
    """One turn on its way through the engine; times in virtual seconds, None until they happen."""

    conversation: str
    turn: int
    client: int
    prompt_tokens: int
    answer_tokens: int
    block_keys: Sequence[bytes]
    chunk_keys: Sequence[bytes]
    arrival_s: float
    admitted_s: float | None = None
    loaded_s: float | None = None
    first_token_s: float | None = None
    finish_s: float | None = None
    load_s: float = 0.0
    hbm_hit_tokens: int = 0
    tier_hit_tokens: dict[str, int] = field(default_factory=dict)
    loaded_bytes: int = 0
    computed_tokens: int = 0
    context_tokens: int = 0
    generated_tokens: int = 0
    saved_chunks: int = 0
    allocation: Allocation | None = None

    @property
    def in_prefill(self) -> bool:
        """Whether prompt tokens are still to be computed."""
        return self.context_tokens < self.prompt_tokens


@dataclass
class Totals:
    """What happened besides the requests themselves."""

    saved_bytes: int = 0
    dropped_chunks: int = 0
    corrupt_chunks: int = 0
    save_stall_s: float = 0.0
    save_s: float = 0.0
    load_s: float = 0.0
    gpu_busy_s: float = 0.0
    steps: int = 0


@dataclass(frozen=True)
class ReplayResult:
    """requests: all, in order of arrival. window_s: end of the measured window. totals: see Totals."""

    requests: list[Request]
    window_s: float
    totals: Totals
