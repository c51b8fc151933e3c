"""How vLLM goes on from its own KV cache in another format (kv_dtype), a process for each; needs the engine's environment.

    python -m workflow.hyperkv.bits.hbm --model DIR --kv-dtype fp8 --asked FILE

Prints JSON: answers and texts as records have them. asked: JSON of token ids: prompts, the answers after which tokens are chosen,
and texts of which all after prefix_tokens is scored. Nothing is stored: keys and values are rounded as they are written, so that those of
a prompt's later tokens depend on rounded ones, too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..base.cli import run_stage

_MOST_TOKENS = 4096


def main() -> None:
    """Parse the command line, ask vLLM, print what it answers."""
    parser = argparse.ArgumentParser(prog="python -m workflow.hyperkv.bits.hbm", description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--kv-dtype", required=True)
    parser.add_argument("--asked", required=True, type=Path)
    arguments = parser.parse_args()
    told = json.loads(arguments.asked.read_text())
    found = _Vllm(arguments.model, arguments.kv_dtype).answers(**told)
    print(json.dumps(found))


class _Vllm:
    def __init__(self, model: str, kv_dtype: str):
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        from vllm import LLM

        self._engine = LLM(
            model=model, dtype="bfloat16", kv_cache_dtype=kv_dtype, enforce_eager=True, enable_prefix_caching=False,
            max_model_len=_MOST_TOKENS, max_num_batched_tokens=_MOST_TOKENS, max_num_seqs=1, gpu_memory_utilization=0.5,
        )  # fmt: skip

    def answers(
        self,
        prompts: Sequence[list[int]],
        answers: Sequence[list[int]],
        texts: dict[str, list[int]],
        prefix_tokens: int,
    ) -> dict[str, Any]:
        """All of them, one at a time."""
        answered, held = [], []
        for prompt, answer in zip(prompts, answers, strict=True):
            free = self._ask(prompt, max_tokens=len(answer), ignore_eos=True).outputs[0].token_ids
            forced, _ = self._scored([*prompt, *answer], len(prompt))
            counts = {"prompt_tokens": len(prompt), "stored_tokens": 0}
            answered.append({**counts, "free": list(free), "forced": forced})
        for name, ids in texts.items():
            forced, loss = self._scored(ids, prefix_tokens + 1)
            held.append({"text": name, "prefix_tokens": prefix_tokens, "forced": forced, "loss": loss})
        return {"answers": answered, "texts": held}

    def _scored(self, ids: Sequence[int], first: int) -> tuple[list[int], float]:
        """From a place on: the tokens that vLLM would choose, and the mean negative logarithm of the probability of those that are there."""
        found = self._ask(ids, max_tokens=1, prompt_logprobs=1).prompt_logprobs[first:]
        chosen = [next(token for token, each in place.items() if each.rank == 1) for place in found]
        losses = [-place[token].logprob for place, token in zip(found, ids[first:], strict=True)]
        return chosen, sum(losses) / len(losses)

    def _ask(self, ids: Sequence[int], **settings: Any) -> Any:
        from vllm import SamplingParams

        asked = {"prompt_token_ids": list(ids)}
        (found,) = self._engine.generate([asked], SamplingParams(temperature=0, **settings), use_tqdm=False)
        return found


if __name__ == "__main__":
    sys.exit(run_stage("hbm", main))
