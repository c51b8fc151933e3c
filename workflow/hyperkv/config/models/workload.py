"""Section `workload`: one model per kind; what a key is without being given is in the kind's class in workloads/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator

from .texts import Path
from .values import Count, Given, Range, Section, key, optional


class _Kind(Given):
    max_context_tokens: Count = optional(unit="tokens")
    """multi_turn, text: a conversation ends before the turn that would pass it, of text without this key before
    what model and engine take. long_documents: ranges that may pass it are refused. trace: requests that
    pass it are what long_requests is about."""


class MultiTurn(_Kind):
    """Chats that grow; the reference workload."""

    kind: Literal["multi_turn"]
    conversations: Count = key(unit="conversations")
    """Number of conversations."""
    turns: Range = optional(unit="messages")
    """Messages per conversation as vLLM counts them, both sides; 2-28 is 1-14 requests."""
    prefix_tokens: Range = optional(unit="tokens")
    """Length of the context before the first user message."""
    user_tokens: Range = optional(unit="tokens")
    """Length of a user message."""
    answer_tokens: Range = optional(unit="tokens")
    """Length of an answer."""


class LongDocuments(_Kind):
    """Questions on shared documents."""

    kind: Literal["long_documents"]
    documents: Count = key(unit="documents")
    """Number of shared documents."""
    requests: Count = key(unit="requests")
    """Number of questions."""
    document_tokens: Range = key(unit="tokens")
    """Length of a document."""
    question_tokens: Range = key(unit="tokens")
    """Length of a question."""
    answer_tokens: Range = key(unit="tokens")
    """Length of an answer."""
    reuse: Literal["uniform", "zipf"] = optional()
    """How often a document is asked about."""


class Trace(_Kind):
    """Requests of a trace, in any of the forms that docs/experiment.md lists."""

    kind: Literal["trace"]
    trace: Path
    """The trace: JSON lines, a JSON array or a table such as CSV, plain or .gz, .bz2, .xz or .zst;
    `snakemake fetch_trace` downloads a published one to results/traces."""
    form: Literal["mooncake", "bailian", "agentic", "burstgpt", "azure"] = optional()
    """Its form; recognised by its first record without this key."""
    max_requests: Count = optional(unit="requests")
    """Take the trace's first so many requests."""
    block_tokens: Count = optional(unit="tokens")
    """Tokens per hash id, without this key what the form has: Mooncake 512, Bailian 16; agentic traces say it themselves."""
    time_unit: Literal["ms", "s", "us"] = optional()
    """Unit of the timestamps, without this key what the form has: Mooncake ms, and it is asked for where
    they may be seconds as well; Bailian, agentic and BurstGPT s; Azure's traces have dates."""
    long_requests: Literal["refuse", "leave_out", "cut"] = optional()
    """What becomes of requests whose prompt and answer pass max_context_tokens, or what the model and the
    engine take where that is not given. `refuse` (without this key) stops; `leave_out` leaves the request
    out, and what it would have saved is not found later; `cut` cuts the prompt's end, so that the answer
    fits and its first blocks stay; prompts that part behind the cut become the same, which raises hit
    rates. How many is in the records' notes."""


class Text(_Kind):
    """Conversations as text, by a model's own chat template and tokenizer."""

    kind: Literal["text"]
    file: Path
    """The conversations, in ShareGPT's form: a JSON array, or one object a line, of
    {"id": …, "conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}, …]}."""
    tokenizer: Path | None = optional()
    """Folder of the model whose tokenizer and chat template make tokens of it; without this key that of the
    model that is served: vllm.model_dir, or of a `model` whose weights a package ships."""
    max_conversations: Count = optional(unit="conversations")
    """Take the file's first so many conversations."""
    max_answer_tokens: Count = optional(unit="tokens")
    """Length of an answer at most, and of one to a last question that the file has no answer to. Without this
    key answers are as long as the file's, and such a question is left out."""


KINDS: dict[str, type[Section]] = {
    "multi_turn": MultiTurn,
    "long_documents": LongDocuments,
    "trace": Trace,
    "text": Text,
}
_KEYS = {name for kind in KINDS.values() for name in kind.model_fields}


def of_its_kind(workload: Any) -> Any:
    """A workload less the keys of other kinds, which come from a configuration below; kind mooncake is what trace was called."""
    if isinstance(workload, Mapping) and workload.get("kind") == "mooncake":
        workload = {**workload, "kind": "trace"}
    if not isinstance(workload, Mapping) or workload.get("kind") not in list(KINDS):
        return workload
    others = _KEYS - set(KINDS[workload["kind"]].model_fields)
    return {name: value for name, value in workload.items() if name not in others}


Workload = Annotated[
    MultiTurn | LongDocuments | Trace | Text, Discriminator("kind"), BeforeValidator(of_its_kind)
]
