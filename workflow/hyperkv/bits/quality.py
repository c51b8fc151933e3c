"""How a real model goes on from KV that was stored and loaded; plain transformers, needs the engine's environment.

A prompt's whole chunks are computed once, go through the format, and the model computes the rest on them, as behind a store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from torch import Tensor

from ..records.kinds.bits import Answered, Held
from ..workloads.text.sharegpt import read

# Pages of Python's documentation that the interpreter brings, of which no conversation asks: two chunks are stored, one is scored.
TOPICS = ("compound", "types", "formatstrings", "string-methods", "debugger", "execmodel")
PREFIX_TOKENS, SCORED_TOKENS = 512, 256
_LETTERS = 6000  # of a page, more than enough
Through = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Prompt:
    """kv: of its whole chunks. rest: the token ids after them. answer: of the model itself, once it is known."""

    kv: Tensor
    rest: list[int]
    tokens: int


class RealModel:
    """A model with its tokenizer. folder: of weights. device: cuda or cpu. chunk_tokens: of which a prompt's whole ones are stored."""

    def __init__(self, folder: str, device: str, chunk_tokens: int):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(device).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._chunk, self._device = chunk_tokens, device

    def conversations(self, path: Path) -> list[list[int]]:
        """Token ids of each conversation's prompt, through the chat template. path: ShareGPT's form."""
        return [
            self._tokenizer.apply_chat_template(
                talk.to_last_question(), add_generation_prompt=True, return_dict=False
            )
            for talk in read(path, f"pairs.conversations: {path}")
        ]

    def texts(self) -> list[list[int]]:
        """Token ids of the held texts: a prefix that is stored, and what is scored."""
        return [
            self._tokenizer(topics[name][:_LETTERS]).input_ids[: PREFIX_TOKENS + SCORED_TOKENS]
            for name in TOPICS
        ]

    def prompt(self, ids: Sequence[int], stored: int | None = None) -> Prompt:
        """With its KV computed. stored: tokens of it that are, by default its whole chunks, but for the last token."""
        length = (len(ids) - 1) // self._chunk * self._chunk if stored is None else stored
        cache = self._cache()
        self._logits(ids[:length], cache, 1)
        kv = torch.stack(
            [torch.stack([getattr(layer, part)[0] for layer in cache.layers]) for part in ("keys", "values")]
        )
        return Prompt(kv.transpose(2, 3).flatten(3).cpu().contiguous(), list(ids[length:]), len(ids))

    def answered(self, prompt: Prompt, through: Through, answer: Sequence[int], count: int) -> Answered:
        """What follows a prompt whose KV went through a format.

        answer: the model's own, empty while it is not known. count: tokens of it. Running free, tokens are chosen one by one until
        one is not the answer's; forced, each is chosen after the answer's own tokens.
        """
        kv = self._loaded(prompt.kv, through)
        cache, ids = self._cache(kv), prompt.rest
        free: list[int] = []
        while len(free) < count and (not answer or free == list(answer[: len(free)])):
            free.append(int(self._logits(ids, cache, 1)[0].argmax()))
            ids = free[-1:]
        given = [*prompt.rest, *(answer or free)[:-1]]
        forced = self._logits(given, self._cache(kv), len(answer or free)).argmax(-1).tolist()
        return Answered(
            prompt_tokens=prompt.tokens,
            stored_tokens=prompt.tokens - len(prompt.rest),
            free=free,
            forced=forced,
        )

    def held(self, name: str, prompt: Prompt, through: Through) -> Held:
        """How surely the model expects the rest of a text, given its prefix."""
        logits = self._logits(prompt.rest, self._cache(self._loaded(prompt.kv, through)))[:-1].float()
        wanted = torch.tensor(prompt.rest[1:], device=logits.device)
        return Held(
            text=name,
            prefix_tokens=prompt.tokens - len(prompt.rest),
            forced=logits.argmax(-1).tolist(),
            loss=float(torch.nn.functional.cross_entropy(logits, wanted)),
        )

    def _loaded(self, kv: Tensor, through: Through) -> Tensor:
        """Chunk by chunk through a format. What it returns may be its own buffer."""
        return torch.cat([through(chunk.contiguous()).clone() for chunk in kv.split(self._chunk, 2)], 2)

    def _cache(self, kv: Tensor | None = None) -> Any:
        from transformers import DynamicCache

        cache = DynamicCache(config=self._model.config)
        if kv is not None:
            heads = self._model.config.num_key_value_heads
            for layer in range(kv.shape[1]):
                keys, values = (
                    kv[:, layer].to(self._device).unflatten(-1, (heads, -1)).transpose(1, 2)[:, None]
                )
                cache.update(keys, values, layer)
        return cache

    @torch.inference_mode()
    def _logits(self, ids: Sequence[int], cache: Any, last: int = 0) -> Tensor:
        """After each of the last tokens, by default of all."""
        asked = torch.tensor([list(ids)], device=self._device)
        found: Tensor = self._model(asked, past_key_values=cache, logits_to_keep=last).logits[0]
        return found
