"""A recommended engine's files: LMCache's configuration and server, and vLLM's command line."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...plugin.lmcache_striped.deadline import Endpoint
from ..cells.cell import CellSpec
from ..connectors import vllm_own
from ..connectors.gated import fed
from ..connectors.registry import DIRECT, STRIPED
from ..engines.vllm import lmcache, refusals
from ..engines.vllm.command import command, settings_of, variables, weights_of
from ..engines.vllm.running import context_tokens, saved_bytes
from ..machine.processes import LOOPBACK
from ..models.geometry import Geometry
from ..models.gpus import check_settings, kv_share, tensor_parallel_of
from ..records.effective import buffer_bytes
from ..records.scenario import gated
from ..stores.held import Held
from ..stores.placed import place as store_place
from ..stores.registry import store_class
from ..workloads import longest_context
from ..workloads.context_limit import ROOM_TOKENS
from ..workloads.factory import make_workload
from .files import Files, Place
from .shell_script import defaulted, executed, required
from .shell_script import script as script_text

_MODEL = "@MODEL@"
_ONLY_MEASURING = ("VLLM_SERVER_DEV_MODE", "PROMETHEUS_MULTIPROC_DIR")


@dataclass(frozen=True)
class EngineSlice:
    """What a real engine needs and a replay record does not say.

    vllm: config section `vllm`. own: the scenario's `vllm`, `lmcache` and `pair`. python: the engine's interpreter.
    """

    vllm: Mapping[str, Any]
    own: Mapping[str, Any]
    python: str


def add_engine(files: Files, cell: CellSpec, engine: EngineSlice, place: Place) -> None:
    """LMCache's configuration and vLLM's command line. Raises UserError when vLLM and LMCache do not know the scenario."""
    replay = cell.spec["engine"] == "replay"
    scenario = {**cell.scenario, **(engine.own if replay else {})}
    settings, geometry = engine_settings(cell, engine), cell.geometry
    check_settings(settings, geometry, "")
    share = kv_share(geometry, tensor_parallel_of(settings))
    chunk_bytes, staging = share.stored_bytes(scenario["chunk_tokens"]), settings["staging_bytes"]
    refusals.require_served_on(scenario, settings["device"])
    without_runs = {"place": {**scenario["place"], "consent": True}} if scenario.get("place") else {}
    refusals.check(
        {**scenario, **without_runs}, settings["device"], settings["block_tokens"], chunk_bytes, staging
    )
    endpoints = _endpoints(scenario, place, files)
    port, http_port = place.engine_port + 1, place.engine_port + 2
    kv = place.data_dir / "kv"
    saved = 0 if replay or cell.scenario["tier"] == "none" else saved_bytes(cell)
    ports = tuple(range(http_port + 1, http_port + 5))
    held = Held.of(scenario, kv, share, geometry, saved, buffer_bytes(scenario, staging), ports)
    offload = lmcache.offload(
        fed(scenario, place.engine_port, None, cell.spec["slo"]),
        staging,
        held,
        endpoints,
        port,
        http_port,
        share.values_per_chunk,
        settings["device"],
    )
    if gated(scenario):
        files.notes.append(
            "the gate learns from what it sees how long computing takes; gate_curve, beside gate in the plugin's keys, names a "
            "file [[tokens, seconds], ...] that tells it at once"
        )
    if offload.config is not None:
        files.add(
            "lmcache.yaml",
            lmcache.rendered(offload.config),
            "LMCache's configuration, for LMCACHE_CONFIG_FILE",
        )
    environment = variables(settings, None, Path())
    if files.password is not None:
        files.notes.append(
            f"the store's password is in none of these files: they read it where {' '.join(files.password.keys().values())} "
            f"says"
        )
    if scenario.get("connector") in DIRECT:
        files.notes.append(
            f"LMCache reads the store's files in {place.data_dir}: run it as the store's user, or let its group read them"
        )
    if scenario.get("connector") in STRIPED or files.password is not None:
        pip = shlex.join(["-m", "pip", "install", str(place.checkout / "workflow/plugin")])
        files.notes.append(
            f"{'vLLM' if scenario['connector'] in vllm_own.OFFLOADING else 'LMCache'} imports package lmcache-striped; it is installed by {engine.python} {pip}"
        )
    environment = vllm_own.variables(scenario, settings["device"], str(place.checkout)) | environment
    environment = {key: value for key, value in environment.items() if key not in _ONLY_MEASURING}
    own = [] if offload.config is None else ['LMCACHE_CONFIG_FILE="$here/lmcache.yaml"']
    python = '"$python"' if replay else shlex.quote(engine.python)
    lines = defaulted("python", "PYTHON", engine.python) if replay else []
    if "store" in scenario and store_class(scenario["store"]).held_by_engine == "folder":
        lines.append(f"mkdir -p {shlex.quote(str(kv))}")
        own_store = store_class(scenario["store"])
        if (sized := own_store.sized_file(held)) is not None:
            lines.append(f"fallocate -l {sized[1]} {shlex.quote(str(sized[0]))}")
        for path, text in own_store.texts(held).items():
            lines.append(f"printf '%s\\n' {shlex.quote(text)} > {shlex.quote(str(path))}")
        environment |= own_store.variables(held)
        for program in own_store.beside_engine(held):
            name, words = f"{program.label.replace(' ', '-')}.sh", shlex.join(program.words)
            what = f"{program.label}, to be started before vLLM"
            body = [*lines, executed(f'{python} {words} "$@"', dict(program.environment))]
            files.add(name, script_text(f"{what[0].upper()}{what[1:]}.", body), what)
    if offload.server is not None:
        server = f"{python} -c {shlex.quote(lmcache.COMMAND)} server {shlex.join(offload.server)}"
        files.add(
            "lmcache-server.sh",
            script_text(
                "LMCache's server; start it before vLLM.",
                [*lines, executed(f'{server} "$@"', environment, own)],
            ),
            "LMCache's server, to be started before vLLM",
        )
    argv = _vllm_argv(cell, settings, scenario, geometry, place, offload)
    model = ("--model", _MODEL) in itertools.pairwise(argv)
    if model:
        lines += required(
            "MODEL_DIR", f"set MODEL_DIR to the folder of {geometry.name}, with weights and tokenizer"
        )
    words = " ".join(
        '"$MODEL_DIR"' if pair == ("--model", _MODEL) else shlex.quote(pair[1])
        for pair in itertools.pairwise(argv)
    )
    files.add(
        "vllm.sh",
        script_text(
            f"vLLM's OpenAI server for scenario {scenario['name']}. Words after it go to vLLM and win.",
            [*lines, executed(f'{python} {words} "$@"', environment, own)],
        ),
        "vLLM's command line and environment",
    )
    _note_engine(files, cell, settings, replay, model)


def _endpoints(scenario: Mapping[str, Any], place: Place, files: Files) -> list[Endpoint]:
    """Where the store's servers listen, or are there already."""
    there = store_place.Place.of(scenario)
    if there is not None:
        return [replace(endpoint, prefix="") for endpoint in there.endpoints]
    processes = scenario.get("processes", 1)
    return [
        Endpoint(
            LOOPBACK,
            place.store_port(scenario) + number,
            files.password,
            folder=place.data_dir / str(number) if processes > 1 else place.data_dir,
        )
        for number in range(processes)
    ]


def engine_settings(cell: CellSpec, engine: EngineSlice) -> dict[str, Any]:
    """vLLM's settings: those measured with; of a modelled engine the config's, on as many GPUs as one was modelled on."""
    if cell.spec["engine"] != "replay":
        return settings_of(cell.spec)
    settings = settings_of({"vllm": engine.vllm, "scenario": engine.own})
    return {**settings, "tensor_parallel": cell.share.ranks}


def _vllm_argv(
    cell: CellSpec,
    settings: Mapping[str, Any],
    scenario: Mapping[str, Any],
    geometry: Geometry,
    place: Place,
    offload: lmcache.Offload,
) -> list[str]:
    """vLLM's command line; a model that was made for measuring, or none, is _MODEL."""
    longest = (
        longest_context(make_workload(cell.spec["workload"], cell.seed)) + ROOM_TOKENS
        if cell.spec["engine"] == "replay"
        else context_tokens(cell)
    )
    folder = settings["model_dir"]
    return command(
        "python",
        Path(folder).absolute() if folder else Path(_MODEL),
        {**settings, "model_dir": folder or _MODEL},
        geometry,
        scenario.get("kv_dtype") or cell.spec["kv_dtype"],
        longest,
        place.engine_port,
        offload.transfer,
    )


def _note_engine(
    files: Files, cell: CellSpec, settings: Mapping[str, Any], replay: bool, model: bool
) -> None:
    if replay:
        files.notes.append(
            "engine replay modelled the GPU: the engine's files are what a real engine would need for this scenario and were "
            "not run; vLLM takes as much HBM as fits, not the "
            f"{cell.spec['replay']['hbm_kv_bytes'] >> 20} MiB of KV that were modelled"
        )
    else:
        files.notes.append(
            f"left out of vllm.sh, since they serve measuring only: {', '.join(_ONLY_MEASURING)}"
        )
        if model:
            files.notes.append(f"measured with {weights_of(settings)} weights of the model's shape")
        if settings["hbm_kv_bytes"] is not None:
            files.notes.append(
                "--num-gpu-blocks-override bounds vLLM's own cache, as measured; without it HBM hits more and the tier less"
            )
    if (ranks := tensor_parallel_of(settings)) > 1:
        files.notes.append(f"vllm.sh needs {ranks} GPUs, which share the model (--tensor-parallel-size)")
    if cell.engines > 1:
        goes = (
            "each request to any" if cell.scenario.get("routing") == "request" else "each conversation to one"
        )
        files.notes.append(
            f"{cell.engines} engines were measured, {goes} of them, and the files start one: the others need GPUs and ports of their own "
            "(CUDA_VISIBLE_DEVICES, sh files/vllm.sh --port), and an LMCache server each where there is one"
        )
    files.notes.append("--max-model-len is the longest context that was measured")
