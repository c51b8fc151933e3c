"""One scenario of one pair: its servers, the passes over the conversations, and the records of what they prove."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import redis

from ..base import direct_http
from ..base.errors import StoreError, UserError
from ..cells.cell import CellSpec
from ..engines.vllm import lmcache
from ..engines.vllm.command import MODEL_NAME
from ..engines.vllm.failures import engine_error
from ..engines.vllm.lmcache_log import transfers
from ..engines.vllm.running import Running
from ..engines.vllm.server import EngineError
from ..engines.vllm.single import send
from ..engines.vllm.starting import start
from ..records.kinds.pairs import Asked, Damage, Kind, Tried, Verdict
from ..workloads.text.sharegpt import Talk, read
from .damage import damage
from .layer import Made
from .verdict import Judged, judged, judged_control

_TOKENIZE_TIMEOUT_S = 120.0
_LONGEST_PROMPT = 4096
_FAULT = re.compile(r"LMCache ERROR:(.*)")
_RAISED = re.compile(r"\b(\w+(?:Error|Exception): .+)")


def tried(
    spec: Mapping[str, Any],
    own: Mapping[str, Any],
    made: Made | str,
    control: Sequence[Asked],
    logs: Path,
    core: int = 0,
) -> list[Tried]:
    """The record of a scenario, and one more for each way in which its store was then damaged.

    spec: the stage's. own: the scenario's slice of the config. made: the environment, or why there is none. control: passes of the
    scenario without a tier, empty for that one itself. core: that vLLM computes on, with one thread, so that other load holds up no
    barrier and changes no sum's order.
    """
    where = f"pairs.conversations: {spec['conversations']}"
    conversations = read(Path(spec["conversations"]), where)
    cell = CellSpec(_of_pair(own, made, len(conversations), core), 0, 1, logs / spec["pair"])
    record = _Records(spec, cell, made, len(conversations))
    if isinstance(made, str):
        return [record.without("not tried", made)]
    is_control = cell.scenario["tier"] == "none"
    alone = is_control or cell.scenario["connector"] in lmcache.VLLMS_OWN
    needed = ("vllm",) if alone else ("vllm", "lmcache")
    if missing := [name for name in needed if made.versions.get(name) is None]:
        why = f"{missing[0]} cannot be imported: {made.lacks.get(missing[0])}"
        return [record.without("does not start", why)]
    if not (control or is_control):
        return [record.without("not tried", "without a tier there are no answers to compare with")]
    passes, failed, fault = _served(cell, conversations, spec["answer_tokens"])
    if is_control:
        if len(passes) < 3:
            return [record.without("does not start", failed)]
        return [record.of(passes, judged_control(passes))]
    if len(passes) < 2:
        return [record.without("does not start", failed)]
    limits = cell.stored_bytes_per_token, cell.spec["evidence"]["device_share_min"]
    told = [[passes[0], loading] for loading in passes[1:]]
    return [record.of(each, judged(control, each, *limits), fault) for each in told]


def _of_pair(own: Mapping[str, Any], made: Made | str, prompts: int, core: int) -> dict[str, Any]:
    """A scenario's slice of the config with the pair's environment; room for the conversations, and the control with vLLM's own cache."""
    found = {**own, "loads": [], "latency": {"prompt_tokens": [_LONGEST_PROMPT], "prompts": prompts}}
    if isinstance(made, Made):
        found |= {"engine_python": made.python, "environment_records": {"engine": str(made.record)}}
    one_thread = {"VLLM_CPU_OMP_THREADS_BIND": str(core), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    found["vllm"] = {**own["vllm"], "environment": one_thread | own["vllm"]["environment"]}
    if own["scenario"]["tier"] == "none":
        found["vllm"]["prefix_caching"] = True
    return found


def _served(
    cell: CellSpec, conversations: Sequence[Talk], answer_tokens: int
) -> tuple[list[Asked], str, str]:
    """The passes that were made, why there are not more, and the first error in LMCache's log."""
    passes: list[Asked] = []
    running, failed, fault = None, "", ""
    with contextlib.ExitStack() as stack:
        try:
            cell = cell.with_folder(stack)
            running = start(cell, stack)
            prompts = [_token_ids(running, each) for each in conversations]
            if cell.scenario["tier"] == "none":
                for kind in ("computed", "own cache"):
                    passes.append(_ask(kind, cell, running, prompts, answer_tokens))
                running.servers.reset_hbm()
                passes.append(_ask("computed", cell, running, prompts, answer_tokens))
            else:
                passes.append(_ask("cold", cell, running, prompts, answer_tokens))
                running.settle()
                for kind in ("warm", *get_args(Damage)):
                    if kind == "warm" or damage(kind, running.store, running.folder):
                        running.empty_buffer(cell)
                        running.make_cold(cell, push=True)
                        passes.append(_ask(kind, cell, running, prompts, answer_tokens))
        except (EngineError, StoreError, UserError, redis.RedisError) as error:
            died_of = None if running is None else engine_error(running.servers.log_lines())
            failed = f"{error}; vllm's engine: {died_of}" if died_of else str(error)
        if running is not None:
            fault = first_fault(running.servers.log_lines())
    return passes, failed, fault


def first_fault(lines: Sequence[str]) -> str:
    """The first error of LMCache in its log or vLLM's, with what raised it; empty for none."""
    for number, line in enumerate(lines):
        if found := _FAULT.search(line):
            said = found[1].partition(" (")[0].partition("Traceback")[0].strip(" :")[:200]
            raised = (
                next(filter(None, map(_RAISED.search, lines[number:])), None) if "Traceback" in line else None
            )
            return f"LMCache: {said}: {raised[1][:200]}" if raised else f"LMCache: {said}"
    return ""


def _token_ids(running: Running, conversation: Talk) -> list[int]:
    """A conversation to its last question as the model's own chat template has it, ready for an answer. Raises EngineError."""
    messages = conversation.to_last_question()
    body = {"model": MODEL_NAME, "messages": messages, "add_generation_prompt": True}
    answer = direct_http.request(
        "POST", f"{running.servers.urls[0]}/tokenize", json=body, timeout=_TOKENIZE_TIMEOUT_S
    )
    if answer.status_code != 200:
        raise EngineError(f"vllm refused /tokenize with status {answer.status_code}: {answer.text[:300]}")
    return answer.json()["tokens"]


def _ask(
    kind: Kind, cell: CellSpec, running: Running, prompts: Sequence[Sequence[int]], answer_tokens: int
) -> Asked:
    """Every prompt, one after the other. Raises EngineError, StoreDied or StoreError."""
    marks, before, answers = running.servers.log_marks(), running.moved(), []
    for prompt in prompts:
        answers.append(
            send(running.servers.urls[0], prompt, answer_tokens, cell.spec["loadgen"]["request_timeout_s"])
        )
        running.check()
    after = running.moved()
    served = _difference(before.served, after.served)
    files = transfers(running.servers.log_lines(marks), cell.share.values_per_chunk).files
    if served is not None and files is not None:  # of connector direct
        served += files.file_bytes
    return Asked(
        kind=kind,
        prompt_tokens=[answer.prompt_tokens for answer in answers],
        cached_tokens=[answer.cached_tokens for answer in answers],
        served_bytes=_difference(before.device_read, after.device_read) if served is None else served,
        answers=[list(answer.tokens) for answer in answers],
    )


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


class _Records:
    """Makes the records of one scenario of one pair."""

    def __init__(self, spec: Mapping[str, Any], cell: CellSpec, made: Made | str, prompts: int):
        versions = made.versions if isinstance(made, Made) else {}
        self._about = {
            "pair": spec["pair"],
            "scenario": cell.scenario["name"],
            **{key: cell.scenario.get(key) for key in ("connector", "store")},
            **{name: versions.get(name) for name in ("vllm", "lmcache", "torch")},
            "prompts": prompts,
            "answer_tokens": spec["answer_tokens"],
        }

    def without(self, verdict: Verdict, reason: str) -> Tried:
        """Of a scenario that did not get as far as a comparison."""
        unknown = dict.fromkeys(("alike", "agreed_tokens", "prompt_tokens", "hit_tokens", "served_bytes"))
        return self._tried(verdict=verdict, reason=reason, damage=None, passes=[], **unknown)

    def of(self, passes: Sequence[Asked], found: Judged, fault: str = "") -> Tried:
        """Of passes that were judged. fault: of LMCache, which says why there were no hits."""
        told = asdict(found)
        if fault and found.verdict == "no hits":
            told["reason"] += f"; {fault}"
        last = passes[-1]
        how = last.kind if last.kind in get_args(Damage) else None
        return self._tried(**told, damage=how, prompt_tokens=sum(last.prompt_tokens), passes=list(passes))

    def _tried(self, **fields: Any) -> Tried:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return Tried(**self._about, **fields, measured_at=now)
