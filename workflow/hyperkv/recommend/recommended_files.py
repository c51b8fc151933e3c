"""The files of a recommended scenario, by the renderers that a measurement uses; only paths and ports are others."""

from __future__ import annotations

import itertools
import resource
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..base.deadline import Endpoint
from ..base.errors import UserError
from ..base.secret import Secret
from ..cells.cell import CellSpec
from ..connectors.registry import STRIPED
from ..engines.vllm import lmcache
from ..engines.vllm.command import command, settings_of, variables
from ..engines.vllm.running import context_tokens, servers_of
from ..machine.node import expanded
from ..machine.processes import LOOPBACK
from ..models.geometry import Geometry
from ..models.gpus import check_settings, kv_share, tensor_parallel_of
from ..stores.base import StoreConfig
from ..stores.kvrocks.config import complete, rendered
from ..stores.registry import make_store
from ..stores.server import ServerStore
from ..workloads import longest_context
from ..workloads.context_limit import ROOM_TOKENS
from ..workloads.factory import make_workload
from .shell_script import defaulted, executed, required
from .shell_script import script as script_text
from .systemd_unit import Service, is_program_of_unit, unit_text

SERVERS = ("valkey", "rocksdb", "kvrocks")
KVROCKS_CONF, PASSWORD_CONF = "kvrocks.conf", "password.conf"
_MODEL = "@MODEL@"
_ANYWHERE = Path("/var/lib/hyperkv")
_ONLY_MEASURING = ("VLLM_SERVER_DEV_MODE", "PROMETHEUS_MULTIPROC_DIR")


@dataclass(frozen=True)
class Place:
    """Where the recommended servers live. data_dir: the store's files, on the disk that was measured unless told otherwise.

    install_dir: where the files are copied to. port, engine_port: of the store, counted up over its processes, and of
    vLLM. checkout: this repository, where the store rocksdb is run from.
    """

    data_dir: Path
    install_dir: Path
    port: int
    engine_port: int
    checkout: Path


@dataclass
class Files:
    """texts: file by name. about: what each is. missing: what could not be written, and why. notes: what to know.

    servers: for every store process what a check needs: its store, program, script, unit, the largest value and, for
    Kvrocks, its configuration file.
    """

    texts: dict[str, str] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    servers: list[dict[str, Any]] = field(default_factory=list)
    password: Secret | None = None

    def add(self, name: str, text: str, about: str) -> None:
        """One more file."""
        self.texts[name], self.about[name] = text, about


@dataclass(frozen=True)
class EngineSlice:
    """What a real engine needs and a replay record does not say.

    vllm: config section `vllm`. own: the scenario's `vllm` and `lmcache` keys. python: the engine's interpreter.
    """

    vllm: Mapping[str, Any]
    own: Mapping[str, Any]
    python: str


def files_of(record: Mapping[str, Any], engine: EngineSlice, place: Place) -> Files:
    """Render a cell record's scenario: the store's configuration, unit and command line, and the engine's."""
    files = Files()
    cell = CellSpec(record["spec"], record["load"], record["repeat"], Path())
    if cell.scenario["tier"] != "none" and cell.scenario["store"] in SERVERS:
        _add_store(files, cell, record, place, tensor_parallel_of(_settings(cell, engine)))
    try:
        _add_engine(files, cell, engine, place)
    except UserError as error:
        files.missing["vllm.sh, lmcache.yaml"] = str(error)
    return files


def _add_store(files: Files, cell: CellSpec, record: Mapping[str, Any], place: Place, ranks: int) -> None:
    scenario = cell.scenario
    store = make_store(
        scenario["store"],
        StoreConfig.of(
            {**scenario, "port": store_port(scenario, place)},
            place.data_dir,
            kv_share(cell.geometry, ranks).value_bytes(scenario["chunk_tokens"]),
            Path("store.log"),
            scenario["capacity_bytes"],
        ),
    )
    parts = servers_of(store)
    for index, part in enumerate(parts):
        _add_server(files, part, f"-{index}" if len(parts) > 1 else "", scenario, place)
    if scenario["store"] == "rocksdb":
        files.notes.append(
            "store rocksdb is RocksDB behind this repository's own server and stands in for Kvrocks: for a service, build "
            "Kvrocks (make kvrocks) and measure it"
        )
    if scenario.get("patched"):
        files.notes.append(
            "this Kvrocks is compiled with patches of workflow/patches/kvrocks (make kvrocks-patched); its record beside it "
            "names them"
        )
    if scenario["settings"].get("workers") == "cores":
        files.notes.append(
            f"workers is one per usable core of the machine that wrote these files; measured with {record['environment']['cores']}"
        )


def _add_server(
    files: Files, store: ServerStore, suffix: str, scenario: Mapping[str, Any], place: Place
) -> None:
    """One process: its command line as a script and as a unit; for Kvrocks its configuration file."""
    config, environment = store.config, dict(store.environment())
    script, unit, conf = f"store{suffix}.sh", f"hyperkv-store{suffix}.service", None
    working = None
    if store.name == "kvrocks":
        conf = KVROCKS_CONF.replace(".", f"{suffix}.")
        socket = str(config.directory / "socket") if config.unix else None
        wanted = complete(
            config.settings,
            directory=config.directory,
            port=config.port,
            value_bytes=config.value_bytes,
            socket=socket,
        )
        files.add(conf, rendered(wanted), "Kvrocks's configuration")
        if (line := store.exposure(config.settings, config.password is not None)) is not None:
            files.notes.append(f"{conf}: {line}")
        program = str(store.program.absolute())
        argv = [program, "-c", str(place.install_dir / conf)]
        read = f"$dir/{KVROCKS_CONF}" if config.password else f"$here/{conf}"
        words = f'{shlex.quote(program)} -c "{read}" --dir "$dir" --port "$port"'
        words += ' --unixsocket "$dir/socket"' if socket else ""
    else:
        argv = store.command_in(config.directory, config.port)
        words = " ".join(_with_variables(argv, str(config.directory), str(config.port)))
    if store.name == "rocksdb":
        working = place.checkout
    program = argv[0]
    read_password, write_password = [], []
    if config.password is not None or not is_program_of_unit(program):
        argv = ["/bin/sh", str(place.install_dir / script)]
    if config.password is not None:
        files.password = config.password
        source = f'cat "$here/{conf}"; ' if conf else ""
        read_password = _password_read(config.password)
        write_password = _password_written(source, KVROCKS_CONF if conf else PASSWORD_CONF)
    title = f"store {store.name} of scenario {scenario['name']}"
    files.add(
        script,
        script_text(
            f"{title[0].upper()}{title[1:]}, as it was measured; HYPERKV_DIR and HYPERKV_PORT put it elsewhere.",
            [
                *defaulted("dir", "HYPERKV_DIR", str(config.directory)),
                *defaulted("port", "HYPERKV_PORT", str(config.port)),
                'mkdir -p "$dir"',
                *write_password,
                *([f"cd {shlex.quote(str(working))}"] if working else []),
                executed(words, environment),
            ],
            read_password,
        ),
        "the store's command line",
    )
    service = Service(
        f"HyperKV {title}",
        argv,
        environment,
        config.directory,
        working,
        open_files(),
        store.stop_timeout_s,
    )
    files.add(unit, unit_text(service), "the same for systemd; set User= to who owns its folder")
    files.servers.append(
        {
            "store": store.name,
            "program": program,
            "password": config.password.keys() if config.password else {},
            "script": script,
            "unit": unit,
            "conf": conf,
            "value_bytes": config.value_bytes,
            "ignored_settings": list(scenario.get("ignored_settings", [])),
        }
    )


def _add_engine(files: Files, cell: CellSpec, engine: EngineSlice, place: Place) -> None:
    """LMCache's configuration and vLLM's command line. Raises UserError when vLLM and LMCache do not know the scenario."""
    replay = cell.spec["engine"] == "replay"
    scenario = {**cell.scenario, **(engine.own if replay else {})}
    settings, geometry = _settings(cell, engine), cell.geometry
    check_settings(settings, geometry, "")
    share = kv_share(geometry, tensor_parallel_of(settings))
    chunk_bytes, staging = share.stored_bytes(scenario["chunk_tokens"]), settings["staging_bytes"]
    lmcache.check(scenario, settings["device"], settings["block_tokens"], chunk_bytes, staging)
    endpoints = [
        Endpoint(LOOPBACK, store_port(scenario, place) + number, files.password)
        for number in range(scenario.get("processes", 1))
    ]
    port, http_port = place.engine_port + 1, place.engine_port + 2
    kv = place.data_dir / "kv"
    offload = lmcache.offload(scenario, staging, kv, endpoints, port, http_port, share.values_per_chunk)
    if offload.config is not None:
        files.add(
            "lmcache.yaml",
            lmcache.rendered(offload.config),
            "LMCache's configuration, for LMCACHE_CONFIG_FILE",
        )
    environment = variables(settings, None, Path())
    if scenario.get("connector") in STRIPED:
        files.notes.append(
            f"connector {scenario['connector']} is imported from this checkout; vLLM's environment needs xxhash"
        )
    if files.password is not None:
        files.notes.append(
            f"the store's password is in none of these files: they read it where {' '.join(files.password.keys().values())} "
            f"says, by the plugin of this checkout"
        )
    if scenario.get("connector") in STRIPED or files.password is not None:
        environment = {"PYTHONPATH": str(place.checkout)} | environment
    environment = {key: value for key, value in environment.items() if key not in _ONLY_MEASURING}
    own = [] if offload.config is None else ['LMCACHE_CONFIG_FILE="$here/lmcache.yaml"']
    python = '"$python"' if replay else shlex.quote(engine.python)
    lines = defaulted("python", "PYTHON", engine.python) if replay else []
    if scenario.get("store") == "files":
        lines.append(f"mkdir -p {shlex.quote(str(kv))}")
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


def _settings(cell: CellSpec, engine: EngineSlice) -> dict[str, Any]:
    """vLLM's settings: those measured with; of a modelled engine the config's, on as many GPUs as were modelled."""
    if cell.spec["engine"] != "replay":
        return settings_of(cell.spec)
    settings = settings_of({"vllm": engine.vllm, "scenario": {"vllm": engine.own["vllm"]}})
    return {**settings, "tensor_parallel": cell.gpus}


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
            files.notes.append(f"measured with {settings['weights']} weights of the model's shape")
        if settings["hbm_kv_bytes"] is not None:
            files.notes.append(
                "--num-gpu-blocks-override bounds vLLM's own cache, as measured; without it HBM hits more and the tier less"
            )
    if (ranks := tensor_parallel_of(settings)) > 1:
        files.notes.append(f"vllm.sh needs {ranks} GPUs, which share the model (--tensor-parallel-size)")
    files.notes.append("--max-model-len is the longest context that was measured")


def store_port(scenario: Mapping[str, Any], place: Place) -> int:
    """The scenario's own port, or the place's."""
    return scenario["port"] or place.port


def _password_read(secret: Secret) -> list[str]:
    """Lines of a shell that set $password, or end the script where there is none."""
    told = secret.keys()
    if "password_file" in told:
        read = f"$(tr -d '\\r' < {shlex.quote(told['password_file'])})"
    else:
        read = f"${{{told['password_env']}-}}"
    return [
        f'password="{read}"',
        'if [ -z "$password" ]; then',
        f"  printf '%s\\n' {shlex.quote(f'{_place_of(told)} has no password; nothing was started')} >&2",
        "  exit 1",
        "fi",
    ]


def _password_written(source: str, name: str) -> list[str]:
    """Lines that write a configuration with $password into the store's folder. source: what is above it."""
    line = """printf 'requirepass "%s"\\n' "$password\""""
    return [
        """password=$(printf '%s\\n' "$password" | sed 's/[\\\\"]/\\\\&/g')""",
        f'rm -f "$dir/{name}"',
        f'{{ {source}{line}; }} > "$dir/{name}"',
        "unset password",
    ]


def _place_of(told: Mapping[str, str]) -> str:
    return told.get("password_file") or f"${told['password_env']}"


def _with_variables(argv: Sequence[str], directory: str, port: str) -> Iterator[str]:
    """The words of a command line for a shell, with $dir and $port where it names the folder and the port."""
    for previous, word in itertools.pairwise(["", *argv]):
        if word == directory or word.startswith(directory + "/"):
            rest = word.removeprefix(directory)
            yield '"$dir"' + (shlex.quote(rest) if rest else "")
        else:
            yield '"$port"' if (previous, word) == ("--port", port) else shlex.quote(word)


def open_files() -> str:
    """The limit of open files that a server started here has, as systemd writes it."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return "infinity" if limit == resource.RLIM_INFINITY else str(limit)


def measured_place(record: Mapping[str, Any]) -> Path:
    """Folder `recommended` on the disk that a record was measured on, which this machine need not have.

    Where only the measuring node knows the variables of data_dir, it is below _ANYWHERE.
    """
    spec = record["spec"]
    try:
        folder = expanded(spec["scenario"].get("data_dir") or spec["data_dir"])
    except UserError:
        folder = _ANYWHERE
    return (folder / "recommended").absolute()
