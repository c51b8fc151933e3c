"""The whole configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .array import Array
from .cost import Cost
from .engines import Latency, Loadgen, Observatory, Replay, Vllm
from .experiment import Evidence, Experiment, Figures, Ladder
from .kvrocks import Auto, Kvrocks
from .predict import Bits, BreakEven, Predict
from .profile import Layers, Profile
from .recommend import Recommend
from .scenario import KvDtype, Scenario, ScenarioName
from .texts import Folder, Path
from .tune import Tune
from .values import Section, key, section
from .workload import Workload


class Config(Section):
    """Every key of config/*.yaml. Sizes are integers in bytes or a number with KiB, MiB or GiB."""

    engine: Literal["replay", "vllm"]
    """What serves requests. `replay` moves real bytes through real stores and models the GPU's time;
    `vllm` is vLLM with LMCache, asked by AIPerf."""
    model: Path
    """The model's Hugging Face config.json, or its folder; bytes of KV per token are derived from it as
    vLLM does. A model that is not known is described by hand: config/models/README.md."""
    kv_dtype: KvDtype = "auto"
    """Number format of the KV cache; `auto` takes the one that the checkpoint brings
    (quantization_config), else the bfloat16 that the workflow serves in."""
    gpu: Path
    """The GPU whose time the replay engine models, a file as config/gpus/README.md describes it."""
    data_dir: Folder = "results/data"
    """Folder in which every job makes one of its own for the stores' files, and removes it; put it on the
    disk that is to be measured. Its parent must be there. One run at a time measures on it; a link or a
    folder on the way to it that other users can replace is refused. Environment variables are those of
    the machine that measures: $TMPDIR/hyperkv. `~` is the home folder, in this and every other path."""
    array: Array = section(Array)
    workload: Workload
    """What the clients ask. Keys of another kind than `kind` are left out."""
    experiment: Experiment
    scenarios: Annotated[dict[ScenarioName, Scenario], Field(min_length=1)]
    replay: Replay = section(Replay)
    vllm: Vllm = section(Vllm)
    loadgen: Loadgen = section(Loadgen)
    latency: Latency = section(Latency)
    evidence: Evidence = section(Evidence)
    profile: Profile = section(Profile)
    layers: Layers = section(Layers)
    predict: Predict = section(Predict)
    break_even: BreakEven = section(BreakEven)
    cost: Cost = section(Cost)
    claims: Path = key("config/claims.yaml")
    """The claims that results/tables/claims.csv judges (config/claims.yaml says how one is written)."""
    recommend: Recommend = section(Recommend)
    tune: Tune = section(Tune)
    ladder: Ladder = section(Ladder)
    pairs: Observatory = section(Observatory)
    bits: Bits = section(Bits)
    kvrocks: Kvrocks = Field(default_factory=Auto)
    """Where the Kvrocks server comes from. With source auto its scenarios are left out, and that is said, when
    there is none; with another source a run without it stops."""
    figures: Figures = section(Figures)


_OWN_FLAG = "write its option into vllm.flags"
_FIXED = "it is a constant now, beside the section's keys in workflow/hyperkv/config/models"
# What became of keys that earlier versions had, by their last two words; * is any name.
REMOVED = {
    "*.load_queue_bytes": "gate: ttft weighs every load against computing the same tokens, gate: throughput against requests that wait, too",
    "array.baseline": _FIXED,
    "array.mount_options": "the array is mounted with noatime",
    "break_even.prompt_tokens": _FIXED,
    "kvrocks.required": "every kvrocks.source but auto insists on a Kvrocks",
    "latency.prompts": _FIXED,
    "loadgen.prime": "no load is sent before it is measured; leave it out",
    "predict.chunk_tokens": _FIXED,
    "predict.experiment": "what the sweep measures is always predicted",
    "predict.seeds": _FIXED,
    "recommend.tps_per_user_min": "cost.slo.tps_per_user says it for costs and recommendation",
    "replay.block_tokens": _FIXED,
    "replay.gpus": "vllm.tensor_parallel says it for both engines",
    "replay.max_num_batched_tokens": _FIXED,
    "vllm.enforce_eager": f"{_OWN_FLAG}: --enforce-eager",
    "vllm.gpu_memory_utilization": f"{_OWN_FLAG}: --gpu-memory-utilization",
    "vllm.index": "export PIP_EXTRA_INDEX_URL, or write --extra-index-url into the file that vllm.pairs.PAIR.requirements names",
    "vllm.max_context_tokens": "workload.max_context_tokens bounds what is sent, and vLLM is started for that",
    "vllm.max_num_batched_tokens": f"{_OWN_FLAG}: --max-num-batched-tokens",
    "vllm.max_num_seqs": f"{_OWN_FLAG}: --max-num-seqs",
    "vllm.python": "each pair of vLLM and LMCache has its own: vllm.pairs.current.python, vllm.pairs.reference.python",
    "vllm.requirements": "each pair of vLLM and LMCache has its own: vllm.pairs.current.requirements, "
    "vllm.pairs.reference.requirements",
    "vllm.weights": "device cuda has dummy weights, cpu random ones",
    "workload.vocabulary": "token ids are those of Llama 3, 128,256",
}
