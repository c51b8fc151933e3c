"""Rule predict_formats: what each format of stored KV makes of one model and GPU before an SSD of stated GB/s; no GPU, no store.

python -m workflow.hyperkv.predict.predict_formats --spec '{...}' --bits results/bits/bits.jsonl --out results/predict/formats.csv

A byte of KV takes share / GB/s to read and then its part of decoding, one after the other, so that a format is a device of
1 / (share / GB/s + decode_s_per_gb) GB/s of KV: to a single full hit as in predict_break_even, and to engine replay, which plays the
reference workload on it as it plays the gate's cells (engines/replay/regret). Where the seconds of a format on a machine with a GPU are
not known it is taken to take none: `at_best`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..base.options import Spec
from ..engines.replay.model_cell import ModelCell
from ..engines.replay.modelled import Device
from ..engines.replay.regret import ALWAYS, NONE, keyed_conversations, play
from ..models.geometry import load_geometry
from ..models.gpus import kv_share
from ..models.serde import SERDES, stored_share
from ..records.frames import Asked, read_jsonl
from ..records.kinds.bits import CONTROLS
from ..records.stats import median
from ..workloads.multi_turn import MultiTurn
from .predict_break_even import break_even_table
from .request_time import hit_ttft_s, required_gbps, rest_s

_IN_HBM = "vllm_"  # formats of vLLM's own cache begin so
_AS_IT_IS = ("bf16", f"{_IN_HBM}fp8")  # stored as HBM has it
_PROMPT_TOKENS, _CHUNK_TOKENS, _CLIENTS = 8192, 256, 32
_WORKLOAD = MultiTurn(conversations=200)


def main(*, spec: Spec, bits: Path, speed: Path | None = None, asked: Asked = None, out: Path) -> None:
    """Write the table.

    Args:
        spec: JSON: model, gpu and gbps.
        bits: records of stage bits.
        speed: further ones, whose seconds are taken where they have any.
    """
    timed = [] if speed is None else read_jsonl([speed])
    formats_table(spec, read_jsonl([bits], asked), timed).to_csv(out, index=False)


def formats_table(
    spec: Mapping[str, Any], records: Sequence[Mapping[str, Any]], timed: Sequence[Mapping[str, Any]] = ()
) -> pd.DataFrame:
    """One row per format that can be chosen x GB/s, the first of each format without a store: computed."""
    found = {record["format"]: record for record in timed if record["encode_s"]}
    chosen = [record for record in records if record["format"] not in CONTROLS]
    return pd.DataFrame(
        row for record in chosen for row in _rows(spec, record, found.get(record["format"], record))
    )


def seconds_per_gb(record: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Of encoding and of decoding, per GB of KV in bf16; None where they were not measured."""
    middles = median(record["encode_s"]), median(record["decode_s"])
    encode_s, decode_s = (None if each is None else each / record["kv_bytes"] * 1e9 for each in middles)
    return encode_s, decode_s


def _rows(
    spec: Mapping[str, Any], record: Mapping[str, Any], timed: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    name = record["format"]
    own = "fp8" if name.startswith(_IN_HBM) and name.endswith("fp8") else "bfloat16"
    asked = {"models": [spec["model"]], "gpus": [spec["gpu"]], "prompt_tokens": [_PROMPT_TOKENS]}
    hit = break_even_table(asked | {"kv_dtype": own, "chunk_tokens": _CHUNK_TOKENS}).iloc[0]
    geometry = load_geometry(Path(spec["model"]), own)
    share = 1.0 if name.startswith(_IN_HBM) else record["stored_bytes"] / record["kv_bytes"]
    share = stored_share(name, geometry) if name in SERDES else share
    encode_s, decode_s = (None, None) if name.startswith(_IN_HBM) else seconds_per_gb(timed)
    gpus = int(hit["gpus_for_weights"])
    token_bytes = kv_share(geometry, gpus).stored_bytes(1) * share
    known = name not in _AS_IT_IS and timed["device"] == "cuda" and decode_s is not None
    coded = (encode_s or 0.0, decode_s or 0.0) if known else (0.0, 0.0)
    decoded_s = rest_s(hit) + hit["kv_bytes"] / 1e9 * coded[1]
    about = {
        "format": name,
        "model": hit["model"],
        "gpu": hit["gpu"],
        "gpus": gpus,
        "stored_bytes_per_token": token_bytes,
        "encode_s_per_gb": encode_s,
        "decode_s_per_gb": decode_s,
        "timed_on": timed["device"] if timed["encode_s"] else None,
        "at_best": not known and name not in _AS_IT_IS,
        "prompt_tokens": _PROMPT_TOKENS,
        "prefill_s": hit["prefill_s"],
        "required_gbps": required_gbps(hit["kv_bytes"] * share, hit["prefill_s"], decoded_s),
    }
    for gbps in [None, *spec["gbps"]]:
        cell = _cell(spec, own, gpus, _device(gbps or 1.0, share, *coded))
        keyed = keyed_conversations(cell)
        played = play(cell, keyed, NONE if gbps is None else ALWAYS)
        turns = [turn for item in keyed for turn in item.conversation.turns]
        tokens = sum(turn.answer_end for turn in turns) / len(turns)
        kept = sum(item.conversation.turns[-1].answer_end for item in keyed)
        yield about | {
            "stated_gbps": gbps,
            "ttft_s": hit["prefill_s"] if gbps is None else hit_ttft_s(hit, cell.device.gbps),
            "predicted_rps_per_gpu": played.rps() / gpus,
            "predicted_ttft_p50_ms": 1e3 * played.percentile_s(50),
            "tokens_per_s": played.rps() * tokens,
            "ssd_bytes": 0.0 if gbps is None else kept * token_bytes,
            "written_bytes_per_s": 0.0 if gbps is None else kept * token_bytes / played.window_s,
        }


def _device(gbps: float, share: float, encode_s: float, decode_s: float) -> Device:
    """A device that reads and writes gbps, as KV in bf16 sees it through a format. Seconds are per GB of KV."""
    return Device(
        gbps=1 / (share / gbps + decode_s), write_gbps=1 / (share / gbps + encode_s), chunk_s=0.0, call_s=0.0
    )


def _cell(spec: Mapping[str, Any], kv_dtype: str, gpus: int, device: Device) -> ModelCell:
    return ModelCell(
        number=0,
        seed=0,
        gpu=Path(spec["gpu"]),
        model=Path(spec["model"]),
        kv_dtype=kv_dtype,
        gpus=gpus,
        clients=_CLIENTS,
        chunk_tokens=_CHUNK_TOKENS,
        prefix_caching=False,
        device=device,
        change=1.0,
        workload=_WORKLOAD,
    )


if __name__ == "__main__":
    sys.exit(run_stage("predict_formats", main))
