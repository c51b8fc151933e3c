"""One request at a time to vLLM, by token ids: its TTFT, and its tokens for the proof that loaded KV is right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import requests

from ...base import direct_http
from .command import MODEL_NAME
from .server import EngineError


@dataclass(frozen=True)
class Answer:
    """An answer at temperature 0. tokens: the words of its tokens. cached_tokens: prompt tokens not computed.

    first_logprob: of the first token, to say how far two answers are apart that name the same one. token_ids: of its tokens,
    when they were asked for.
    """

    ttft_s: float
    latency_s: float
    tokens: tuple[str, ...]
    first_logprob: float | None
    prompt_tokens: int
    cached_tokens: int
    token_ids: tuple[int, ...] = ()


def send(
    url: str, prompt: Sequence[int], answer_tokens: int, timeout_s: float, token_ids: bool = False
) -> Answer:
    """Send one prompt and stream its answer. Raises EngineError when it is not whole within `timeout_s`.

    token_ids: ask for the answer's token ids as well; vLLM then sends those of the prompt, too, so not when it is timed.
    """
    body = {
        "model": MODEL_NAME,
        "prompt": list(prompt),
        "max_tokens": answer_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "logprobs": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    payload = json.dumps(body | ({"return_token_ids": True} if token_ids else {}))
    tokens: list[str] = []
    ids: list[int] = []
    logprobs: list[float] = []
    usage: dict = {}
    first_s: float | None = None
    started = perf_counter()
    try:
        with direct_http.request(
            "POST",
            f"{url}/v1/completions",
            data=payload,
            headers={"Content-Type": "application/json"},
            stream=True,
            timeout=timeout_s,
        ) as reply:
            if reply.status_code != 200:
                raise EngineError(f"vllm answered with status {reply.status_code}: {reply.text[:300]}")
            for line in reply.iter_lines():
                if not line.startswith(b"data: {"):
                    continue
                first_s = perf_counter() - started if first_s is None else first_s
                event = json.loads(line[len(b"data: ") :])
                usage = event.get("usage") or usage
                for choice in event.get("choices", []):
                    told = choice.get("logprobs") or {}
                    tokens += told.get("tokens") or []
                    logprobs += told.get("token_logprobs") or []
                    ids += choice.get("token_ids") or []
    except requests.RequestException as error:
        raise EngineError(
            f"vllm gave no answer to a single request within {timeout_s:.0f} s: {error}"
        ) from error
    if first_s is None or not usage:
        raise EngineError("vllm ended a single request without an answer; see its log")
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Answer(
        ttft_s=first_s,
        latency_s=perf_counter() - started,
        tokens=tuple(tokens),
        first_logprob=logprobs[0] if logprobs else None,
        prompt_tokens=usage["prompt_tokens"],
        cached_tokens=cached,
        token_ids=tuple(ids),
    )
