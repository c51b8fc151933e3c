"""What engine `replay` is given and what it tells: its settings, keyed conversations, requests and totals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field

from ...base.errors import UserError
from ...cells.samples import Sample
from ...workloads import Conversation, longest_context
from ...workloads.chunks import every
from .hbm import Allocation
from .tiers import Fetch, Load


@dataclass
class VirtualClock:
    """The engine's seconds, for whom it shares them with."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass(frozen=True)
class ReplaySettings:
    """The engine's own settings; sizes in tokens and bytes.

    block_tokens: HBM block. hbm_blocks: KV capacity of HBM. chunk_tokens: a multiple of block_tokens.
    staging_bytes: pool for saves. staging_full: "wait" or "drop". like_vllm: a step is planned when the one before it begins, and with it
    what waits is considered if it has room; what is ready by then comes with it; what a step computed is saved after it. With a gate, and without
    prefix_caching, it is then looked for before it has HBM blocks, and fetched. text_s: seconds that a prompt's text takes, per token, before the engine knows of it.
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
    like_vllm: bool = False
    text_s: float = 0.0

    def require_room(self, conversations: Sequence[KeyedConversation], chunk_bytes: int | None) -> None:
        """That HBM holds every context, and the staging pool a chunk. Raises UserError naming the key."""
        if self.chunk_tokens % self.block_tokens:
            raise UserError(
                f"chunk_tokens: {self.chunk_tokens} is not a multiple of the engine's block_tokens "
                f"{self.block_tokens}"
            )
        longest = longest_context(item.conversation for item in conversations)
        if -(-longest // self.block_tokens) > self.hbm_blocks:
            raise UserError(
                f"hbm_kv_bytes: HBM holds {self.hbm_blocks * self.block_tokens} tokens, but a context "
                f"of the workload has {longest}; raise hbm_kv_bytes or shorten the workload"
            )
        if chunk_bytes is not None and self.staging_bytes < chunk_bytes:
            raise UserError(
                f"staging_bytes: {self.staging_bytes:,} bytes hold no chunk of {chunk_bytes:,} bytes; "
                f"raise staging_bytes or lower chunk_tokens"
            )


@dataclass(frozen=True)
class KeyedConversation:
    """A conversation with the chained keys of its full HBM blocks (see chunks.chain_keys)."""

    conversation: Conversation
    block_keys: Sequence[bytes]


@dataclass
class Request:
    """One turn on its way through the engine; times in virtual seconds, None until they happen.

    known_s: when the engine knows of it. fetch: what a gate has fetched for it. tier_hit_tokens: by tier. other_hit_tokens: of the last one's, those of chunks that another engine saved.
    """

    conversation: str
    turn: int
    client: int
    prompt_tokens: int
    answer_tokens: int
    block_keys: Sequence[bytes]
    chunk_keys: Sequence[bytes]
    arrival_s: float
    known_s: float = 0.0
    admitted_s: float | None = None
    loaded_s: float | None = None
    first_token_s: float | None = None
    finish_s: float | None = None
    load_s: float = 0.0
    hbm_hit_tokens: int = 0
    tier_hit_tokens: dict[str, int] = field(default_factory=dict)
    other_hit_tokens: int = 0
    loaded_bytes: int = 0
    fetch: Fetch | None = None
    computed_tokens: int = 0
    context_tokens: int = 0
    generated_tokens: int = 0
    saved_chunks: int = 0
    allocation: Allocation | None = None

    @classmethod
    def of(
        cls, keyed: KeyedConversation, turn: int, client: int, now_s: float, settings: ReplaySettings
    ) -> Request:
        """A client's turn of a conversation, sent now."""
        position = keyed.conversation.turns[turn]
        blocks = keyed.block_keys[: position.answer_end // settings.block_tokens]
        return cls(
            conversation=keyed.conversation.name,
            turn=turn,
            client=client,
            prompt_tokens=position.prompt_end,
            answer_tokens=position.answer_end - position.prompt_end,
            block_keys=blocks,
            chunk_keys=every(blocks, settings.chunk_tokens // settings.block_tokens),
            arrival_s=now_s,
            known_s=now_s + position.prompt_end * settings.text_s,
        )

    @property
    def in_prefill(self) -> bool:
        """Whether prompt tokens are still to be computed."""
        return self.context_tokens < self.prompt_tokens

    def loadable(self, chunk_tokens: int) -> Sequence[bytes]:
        """Keys of the whole chunks past the HBM hit that could serve prompt tokens other than the last one."""
        return self.chunk_keys[self.hbm_hit_tokens // chunk_tokens : (self.prompt_tokens - 1) // chunk_tokens]

    def completed(self, new: int, settings: ReplaySettings) -> Sequence[bytes]:
        """Keys of the chunks that its next tokens, so many of them, complete and that are to be saved."""
        chunk, end = settings.chunk_tokens, self.context_tokens + new
        kept = end if settings.save_decode_cache else min(end, self.prompt_tokens)
        return self.chunk_keys[self.context_tokens // chunk : kept // chunk]

    def take(self, load: Load, chunk_tokens: int) -> None:
        """Count what was loaded for it, behind what HBM has."""
        first, position = self.hbm_hit_tokens // chunk_tokens, self.hbm_hit_tokens
        for name, chunks in load.by_tier.items():
            first += chunks
            reached = max(position, first * chunk_tokens)
            self.tier_hit_tokens[name] = reached - position
            position = reached
        of_store = range(first - len(load.others), first)
        self.other_hit_tokens = sum(
            (number + 1) * chunk_tokens - max(number * chunk_tokens, self.hbm_hit_tokens)
            for number, of_another in zip(of_store, load.others, strict=True)
            if of_another
        )
        self.context_tokens, self.saved_chunks = position, max(self.saved_chunks, first)

    @property
    def sample(self) -> Sample:
        """It, once answered, as a cell's figures are made of it."""
        assert self.first_token_s is not None
        assert self.finish_s is not None
        external = sum(self.tier_hit_tokens.values())
        return Sample(
            arrival_s=self.arrival_s,
            first_token_s=self.first_token_s,
            finish_s=self.finish_s,
            prompt_tokens=self.prompt_tokens,
            answer_tokens=self.answer_tokens,
            hit_tokens=self.hbm_hit_tokens + external,
            external_hit_tokens=external,
        )


def share_out(prefilling: Iterable[Request], budget: int, until_s: float) -> list[tuple[Request, int]]:
    """Prompt tokens of a step of `budget`: in order as many as are left of each request that was ready by until_s."""
    found: list[tuple[Request, int]] = []
    for request in prefilling:
        if (request.loaded_s or 0.0) > until_s:
            continue
        new = min(budget, request.prompt_tokens - request.context_tokens)
        if new <= 0:
            break
        found.append((request, new))
        budget -= new
    return found


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

    @classmethod
    def of(cls, parts: Iterable[Totals]) -> Totals:
        """Of several engines together."""
        return cls(*map(sum, zip(*map(astuple, parts), strict=True)))


@dataclass(frozen=True)
class ReplayResult:
    """requests: all, in order of arrival. window_s: end of the measured window. totals: see Totals."""

    requests: list[Request]
    window_s: float
    totals: Totals
