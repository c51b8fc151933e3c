"""A recommended store's files: of every process its command line as a script and as a systemd unit, and its configuration."""

from __future__ import annotations

import itertools
import os
import resource
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ...plugin.lmcache_striped.secret import Secret
from ..cells.cell import CellSpec
from ..machine.own_folder import SOCKET_PATH_BYTES
from ..models.gpus import kv_share
from ..stores.base import StoreConfig
from ..stores.registry import make_store
from ..stores.server import ServerStore
from .files import Files, Place
from .shell_script import defaulted, executed
from .shell_script import script as script_text
from .systemd_unit import Service, is_program_of_unit, unit_text


def add_store(files: Files, cell: CellSpec, place: Place, ranks: int, cores: int) -> None:
    """The files of a cell's server. ranks: GPUs that share the model. cores: of the machine that measured."""
    scenario = cell.scenario
    value_bytes = kv_share(cell.geometry, ranks).value_bytes(scenario["chunk_tokens"])
    own = {**scenario, "port": place.store_port(scenario)}
    config = StoreConfig.of(own, place.data_dir, value_bytes, Path("store.log"), scenario["capacity_bytes"])
    files.password = config.password
    servers = make_store(scenario["store"], config).servers
    for index, server in enumerate(servers):
        _add_server(files, server, f"-{index}" if len(servers) > 1 else "", scenario["name"], place)
    if scenario.get("node"):
        files.notes.append(
            "it was measured with the store on another node than the engine; these files start both on one machine"
        )
    files.notes += servers[0].notes_for_service(cores)


def _add_server(files: Files, store: ServerStore, suffix: str, scenario: str, place: Place) -> None:
    config, environment = store.config, dict(store.environment())
    script, unit = f"store{suffix}.sh", f"hyperkv-store{suffix}.service"
    with store.placed(None):
        text = store.configuration(config.port, None)
    conf = None if text is None else store.conf_name.replace(".", f"{suffix}.")
    installed = None if conf is None else place.install_dir / conf
    with store.placed(installed):
        argv, moved = store.command(config.port), store.moved(config.port)
        wanted, read = store.wanted(config.port), str(store.conf)
        socket = store.socket_path or ""
    if (size := len(os.fsencode(socket))) > SOCKET_PATH_BYTES:
        files.notes.append(
            f"{script}: its unix socket {socket} has a path of {size} bytes, and the kernel takes {SOCKET_PATH_BYTES}; "
            "set recommend.data_dir to a folder with a shorter one"
        )
    if text is not None and conf is not None:
        files.add(conf, text, f"{store.title}'s configuration")
    if (line := store.exposure(config.settings, config.password is not None)) is not None:
        files.notes.append(f"{conf or script}: {line}")
    here = f'"$here/{conf}"' if config.password is None else f'"$dir/{store.conf_name}"'
    words = " ".join(
        here if word == read else shown
        for word, shown in zip([*argv, *moved], _with_variables([*argv, *moved], config), strict=True)
    )
    program = argv[0]
    if config.password is not None or not is_program_of_unit(program):
        argv = ["/bin/sh", str(place.install_dir / script)]
    read_password, write_password = [], []
    if config.password is not None:
        read_password = password_read(config.password)
        write_password = password_written(f'cat "$here/{conf}"; ' if conf else "", store.conf_name)
    working = place.checkout if store.programs else None
    title = f"store {store.name} of scenario {scenario}"
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
        _open_files(),
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
            "settings": wanted,
            "ignored_settings": list(config.ignored_settings),
        }
    )


def password_read(secret: Secret) -> list[str]:
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


def password_written(source: str, name: str) -> list[str]:
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


def _with_variables(argv: Sequence[str], config: StoreConfig) -> Iterator[str]:
    """The words of a command line for a shell, with $dir and $port where it names the folder and the port."""
    directory, port = str(config.directory), str(config.port)
    for previous, word in itertools.pairwise(["", *argv]):
        if word == directory or word.startswith(directory + "/"):
            rest = word.removeprefix(directory)
            yield '"$dir"' + (shlex.quote(rest) if rest else "")
        else:
            yield '"$port"' if (previous, word) == ("--port", port) else shlex.quote(word)


def _open_files() -> str:
    """The limit of open files that a server started here has, as systemd writes it."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return "infinity" if limit == resource.RLIM_INFINITY else str(limit)
