"""Records of stage bits: KV in one format, what it takes in bytes and seconds and how a real model goes on from it."""

from __future__ import annotations

from typing import Annotated, Literal

from .record import Bytes, Name, OfOneFile, Part, Text, Tokens, Unit, Word

COARSE = "rounded_2bit"  # shows what a loss looks like
CONTROLS = (COARSE, "vllm_bf16")
"""Formats that nobody would choose: what others are held against."""


class Answered(Part):
    """A prompt of which stored_tokens came through the format. free: tokens chosen one by one, up to the first that differs from
    the control's. forced: at each place the token that is chosen after the control's own answer up to there.
    """

    prompt_tokens: Tokens
    stored_tokens: Tokens
    free: list[int]
    forced: list[int]


class Held(Part):
    """A text whose prefix came through the format. forced: at each place after it the token that is chosen after the text up to there.
    loss: mean negative logarithm of the probability of the text's own tokens there.
    """

    text: Name
    prefix_tokens: Tokens
    forced: list[int]
    loss: float


class Coded(OfOneFile):
    """KV in one format."""

    record: Literal["coded"] = "coded"
    format: Annotated[str, Unit("word")]
    """How KV is kept."""
    control: Annotated[str, Unit("word")]
    """The format that it is held against: the same engine's bf16."""
    model: Name
    """Model whose KV it was."""
    device: Word
    """Where encoding and decoding ran: cuda or cpu."""
    chunk_tokens: Tokens
    """Tokens of a chunk, which is encoded by itself."""
    kv_bytes: Bytes | None
    """Bytes of its KV in bf16."""
    stored_bytes: Bytes | None
    """Bytes that a store keeps of it."""
    encode_s: list[float]
    decode_s: list[float]
    error: Annotated[float | None, Unit("ratio")]
    """Root mean square of what KV lost over that of the KV."""
    answers: list[Answered]
    texts: list[Held]
    reason: Text
    """Why something is not known."""
