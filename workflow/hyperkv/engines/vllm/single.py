"""Single requests of engine `vllm`: TTFT by prompt length, and the proof that what a tier returns is right.

Each prompt is sent twice, vLLM's own cache emptied in between: computed, then from the tier. The second answer must
name the same first token, and what vLLM counts as loaded must have been moved. With save second_use it is sent once more in
between, computed again and saved then.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Literal

import numpy as np
import requests

from ...base import direct_http
from ...cells.cell import CellSpec
from ...connectors.gated import curve_in
from ...records.effective import not_as_asked
from ...records.evidence import quotient, served_from_ram
from ...records.kinds.cell import Pass, Single
from ...records.scenario import gated
from ...stores.registry import has_store
from . import aiperf, lmcache
from .command import MODEL_NAME
from .lmcache_log import transfers
from .running import ANSWER_TOKENS, Running, asked, context_tokens, framed
from .server import EngineError

_PROBED_TOKENS = 8


def warm_up(cell: CellSpec, running: Running) -> None:
    """Compile, allocate and connect: a few requests whose tokens occur nowhere else."""
    rng = np.random.default_rng([cell.seed, 0])
    shortest, longest = 2 * cell.scenario["chunk_tokens"] + 1, context_tokens(cell) - ANSWER_TOKENS
    for tokens in (shortest, *cell.spec["latency"]["prompt_tokens"][-1:]):
        for _ in range(cell.spec["loadgen"]["warm_up_requests"]):
            prompt = aiperf.token_ids(rng, running.vocabulary, min(tokens, longest))
            for _, url in itertools.product(range(2), running.servers.urls):
                send(url, prompt, ANSWER_TOKENS, cell.spec["loadgen"]["request_timeout_s"])
                running.servers.reset_hbm()
    running.settle()
    running.effective = replace(running.effective, save_decode_cache=saves_answers(cell, running))


def saves_answers(cell: CellSpec, running: Running) -> bool | None:
    """Whether an answer's KV can be found again: a chunk that only the answer completes, asked for once more.

    None without a tier, where no context holds such a chunk, vLLM does not tell token ids, or a gate may have left it.
    """
    chunk = cell.scenario["chunk_tokens"]
    part = min(_PROBED_TOKENS, chunk - 1)
    longest = context_tokens(cell) - ANSWER_TOKENS
    if cell.scenario["tier"] == "none" or not part or chunk + 2 * _PROBED_TOKENS > longest:
        return None
    rng, timeout_s = np.random.default_rng([cell.seed, 2]), cell.spec["loadgen"]["request_timeout_s"]
    prompt = aiperf.token_ids(rng, running.vocabulary, chunk - part)
    answer = send(running.servers.urls[0], prompt, part + _PROBED_TOKENS, timeout_s, token_ids=True)
    running.servers.reset_hbm()
    running.settle()
    if len(answer.token_ids) != part + _PROBED_TOKENS:
        return None
    rest = aiperf.token_ids(rng, running.vocabulary, _PROBED_TOKENS)
    longer = [*prompt, *answer.token_ids, *rest]
    _use_once_more(cell, running, longer)
    again = send(running.servers.urls[0], longer, ANSWER_TOKENS, timeout_s)
    running.servers.reset_hbm()
    running.settle()
    found = again.cached_tokens >= chunk
    return found if found or not gated(cell.scenario) else None


def _use_once_more(cell: CellSpec, running: Running, prompt: Sequence[int]) -> None:
    """Have a prompt's chunks saved that were used once, where they are saved at the second use."""
    if cell.scenario.get("save") == "second_use":
        send(running.servers.urls[0], prompt, ANSWER_TOKENS, cell.spec["loadgen"]["request_timeout_s"])
        running.servers.reset_hbm()
        running.settle()


def measure_single(cell: CellSpec, running: Running) -> Single:
    """TTFT of single requests by prompt length: first (computed, and saved where there is a tier), then again."""
    started = time.perf_counter()
    samples: list[Pass] = []
    with running.evicting(cell):
        for tokens in cell.spec["latency"]["prompt_tokens"]:
            for number in range(cell.spec["latency"]["prompts"]):
                rng = np.random.default_rng([cell.seed, tokens, number])
                prompt = aiperf.token_ids(rng, running.vocabulary, tokens)
                first, again = first_and_again(cell, running, prompt, push=True)
                of_device = device_faults(again, cell)
                samples += [first, again.model_copy(update={"faults": [*again.faults, *of_device]})]
                write_curve(cell, samples)
    faults = [*faults_of(samples), *not_as_asked(asked(cell), running.effective)]
    return Single(
        **framed(cell),
        asked=asked(cell),
        effective=running.effective,
        valid=not faults,
        reasons=faults,
        samples=samples,
        start_s=running.start_s,
        cell_s=time.perf_counter() - started,
    )


def write_curve(cell: CellSpec, samples: Sequence[Pass]) -> None:
    """Tell a gate, where there is one, how long the engine computes: the TTFT of single requests' first passes."""
    if not gated(cell.scenario):
        return
    computed: dict[int, list[float]] = {}
    for sample in samples[::2]:
        computed.setdefault(sample.prompt_tokens, []).append(sample.ttft_s)
    path = curve_in(cell.directory / "engine")
    written = path.with_suffix(".new")
    written.write_text(
        json.dumps([[tokens, median(seconds)] for tokens, seconds in sorted(computed.items())])
    )
    written.replace(path)


def first_and_again(
    cell: CellSpec, running: Running, prompt: Sequence[int], push: bool = False
) -> list[Pass]:
    """One prompt computed and the same prompt again, vLLM's own cache emptied after each; a record of each pass.

    Of several engines the last is asked again, which finds what the first has saved, where they share that. push: see
    Running.make_cold.

    `faults` of both are what the pair disproves (proof_faults).
    """
    timeout_s = cell.spec["loadgen"]["request_timeout_s"]
    found = []
    timed = in_process(cell) and not lmcache.loads_ahead(cell.scenario)
    kinds: tuple[Literal["first", "again"], ...] = ("first", "again")
    running.make_room(cell)
    for kind in kinds:
        url = running.servers.urls[-1 if kind == "again" and shares(cell) else 0]
        running.check()
        marks, before = running.servers.log_marks(), running.moved()
        answer = send(url, prompt, ANSWER_TOKENS, timeout_s)
        after = running.moved()
        log = transfers(running.servers.log_lines(marks), cell.share.values_per_chunk)
        found.append(
            Pass(
                kind=kind,
                **{name: value for name, value in asdict(answer).items() if name != "token_ids"},
                served_bytes=None
                if before.served is None or after.served is None
                else after.served - before.served + (0 if log.files is None else log.files.file_bytes),
                device_read_bytes=None
                if before.device_read is None or after.device_read is None
                else after.device_read - before.device_read,
                retrieved_tokens=log.retrieved_tokens if in_process(cell) else None,
                retrieve_s=log.retrieve_s if timed else None,
            )
        )
        running.servers.reset_hbm()
        if kind == "first" and cell.scenario["tier"] != "none":
            arriving = log.stored_tokens * cell.stored_bytes_per_token
            arriving -= log.first_use_chunks * cell.scenario["chunk_tokens"] * cell.stored_bytes_per_token
            running.settle(before.saved, arriving)
            _use_once_more(cell, running, prompt)
            running.empty_buffer(cell)
            running.make_cold(cell, push)
    scenario = cell.scenario
    pool, token_bytes = bool(scenario["dram_pool_bytes"]), cell.stored_bytes_per_token
    faults = proof_faults(
        found,
        scenario["tier"],
        scenario["chunk_tokens"],
        token_bytes,
        pool,
        gated(scenario),
        bool(scenario.get("serde")),
    )
    return [sample.model_copy(update={"faults": list(faults)}) for sample in found]


def shares(cell: CellSpec) -> bool:
    """Whether one engine is to find what another saved."""
    return len(cell.salts) == 1 and has_store(cell.scenario)


def device_faults(again: Pass, cell: CellSpec) -> list[str]:
    """Of tier ssd, what says that a prompt came from RAM: from the page cache or what the store has not written yet."""
    least = cell.spec["evidence"]["device_share_min"]
    share = quotient(again.device_read_bytes, again.cached_tokens * cell.stored_bytes_per_token)
    is_known = again.device_read_bytes is not None or not again.cached_tokens
    if cell.scenario["tier"] != "ssd" or (is_known and (share is None or share >= least)):
        return []
    return [f"a prompt of {again.prompt_tokens} tokens was {served_from_ram(share, least)}"]


def in_process(cell: CellSpec) -> bool:
    """Whether LMCache runs inside vLLM, and so tells of every request in its log."""
    return cell.scenario["tier"] != "none" and cell.scenario["connector"] in lmcache.IN_PROCESS


def proof_faults(
    samples: Sequence[Pass],
    tier: str,
    chunk_tokens: int,
    stored_bytes_per_token: int,
    pool: bool,
    gated: bool = False,
    lossy: bool = False,
) -> list[str]:
    """What single requests disprove, a line each.

    A first pass must be computed; the same prompt again must find at least half of its whole chunks, must have
    moved what vLLM counts as a hit (by the store's bytes or LMCache's log), and must answer with the same first
    token. samples: pairs of both passes. pool: a DRAM pool is before the store, which then serves nothing.
    gated: a gate may leave what is there to be computed, so that nothing has to be found. lossy: another first token
    proves nothing.
    """
    faults = []
    for first, again in zip(samples[::2], samples[1::2], strict=True):
        length, found = first.prompt_tokens, again.cached_tokens
        whole = (length - 1) // chunk_tokens * chunk_tokens
        if first.cached_tokens:
            faults.append(f"{first.cached_tokens} of a new prompt's {length} tokens came from a cache")
        if first.tokens[:1] != again.tokens[:1] and not lossy:
            faults.append(f"a prompt of {length} tokens got another first token from the tier than computed")
        if tier == "none":
            continue
        if whole and found < whole / 2 and not gated:
            faults.append(f"{found} of {whole} saved tokens of a prompt of {length} were found again")
        if again.retrieved_tokens is not None and again.retrieved_tokens < found:
            faults.append(
                f"vLLM counts {found} tokens of a prompt of {length} as loaded, LMCache loaded {again.retrieved_tokens}"
            )
        served = again.served_bytes
        if served is not None and not pool and served < found * stored_bytes_per_token:
            faults.append(
                f"vLLM counts {found} tokens of a prompt of {length} as loaded, the store served {served:,} bytes of "
                f"{found * stored_bytes_per_token:,}"
            )
    return list(dict.fromkeys(faults))


def faults_of(samples: Sequence[Pass]) -> list[str]:
    """What some single requests disprove, every line once."""
    return list(dict.fromkeys(fault for sample in samples for fault in sample.faults))


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
    started = time.perf_counter()
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
                first_s = time.perf_counter() - started if first_s is None else first_s
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
        latency_s=time.perf_counter() - started,
        tokens=tuple(tokens),
        first_logprob=logprobs[0] if logprobs else None,
        prompt_tokens=usage["prompt_tokens"],
        cached_tokens=cached,
        token_ids=tuple(ids),
    )
