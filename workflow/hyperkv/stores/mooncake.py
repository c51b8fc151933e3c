"""Store `mooncake`: Mooncake's master and client, its memory and its files on SSD, for vLLM's own connector.

Programs and keys of mooncake-transfer-engine 0.3.13; package libibverbs1 has a library that they are linked with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ..machine.processes import LOOPBACK
from .adapters import EngineStore
from .base import Look
from .held import Held, Program
from .owned_keys import ITS_FOLDER, Owned

_MASTER, _MASTER_HTTP, _CLIENT, _CLIENT_HTTP = range(4)
_VLLMS_BUFFER_BYTES = 128 << 20
_FILES = {
    "storage_backend_descriptor": "file_per_key_storage_backend",
    "use_uring": "true",  # past the page cache
    "heartbeat_interval_seconds": "1",
}
# Without a pool its memory only buffers: what is on the SSD leaves it a second later.
_BUFFER_ONLY = {"eviction_high_watermark_ratio": 0.01, "eviction_ratio": 1.0, "default_kv_lease_ttl": 1000}


class MooncakeStore(EngineStore):
    """`settings` are the client's keys of its files: KEY is its variable MOONCAKE_OFFLOAD_KEY."""

    name = "mooncake"
    look: ClassVar[Look] = Look("#117733", "$M$", "$m$")
    connectors = ("mooncake",)
    owned_keys: ClassVar[tuple[Owned, ...]] = (Owned(("file_storage_path", "fsdir"), ITS_FOLDER),)

    @classmethod
    def texts(cls, held: Held) -> dict[Path, str]:
        told = {
            "metadata_server": "P2PHANDSHAKE",
            "master_server_address": f"{LOOPBACK}:{held.ports[_MASTER]}",
            "protocol": "tcp",
            "device_name": "",
            "mode": "standalone-store",
            "global_segment_size": 0,
            "local_buffer_size": _VLLMS_BUFFER_BYTES,
            "enable_offload": True,
        }
        return {held.folder / "mooncake.json": json.dumps(told)}

    @classmethod
    def variables(cls, held: Held) -> dict[str, str]:
        [path] = cls.texts(held)
        return {"MOONCAKE_CONFIG_PATH": str(path), "MOONCAKE_REQUESTER_LOCAL_HOSTNAME": LOOPBACK}

    @classmethod
    def beside_engine(cls, held: Held) -> tuple[Program, ...]:
        master = {
            "rpc_address": LOOPBACK,
            "rpc_port": held.ports[_MASTER],
            "metrics_host": LOOPBACK,
            "metrics_port": held.ports[_MASTER_HTTP],
            "enable_offload": "true",
            **({} if held.is_pool else _BUFFER_ONLY),
        }
        client = {
            "host": LOOPBACK,
            "port": held.ports[_CLIENT],
            "http_port": held.ports[_CLIENT_HTTP],
            "enable_http_server": "true",
            "master_server_address": f"{LOOPBACK}:{held.ports[_MASTER]}",
            "metadata_server": "P2PHANDSHAKE",
            "protocol": "tcp",
            "global_segment_size": f"{held.buffer_bytes >> 20} MB",
            "local_buffer_size": "16 MB",
            "enable_offload": "true",
        }
        files = {**_FILES, **{key: str(value) for key, value in held.settings.items()}}
        own = {f"MOONCAKE_OFFLOAD_{key.upper()}": value for key, value in files.items()}
        own |= {"MOONCAKE_OFFLOAD_FILE_STORAGE_PATH": str(held.folder), "MOONCAKE_OFFLOAD_FSDIR": "values"}
        return (
            _program("mooncake master", "cli", master, held.ports[_MASTER_HTTP]),
            _program("mooncake client", "cli_client", client, held.ports[_CLIENT_HTTP], own),
        )


def _program(
    label: str, module: str, options: Mapping[str, Any], port: int, variables: Mapping[str, str] | None = None
) -> Program:
    words = (f"--{key}={value}" for key, value in options.items())
    code = f"from mooncake.{module} import main; main()"
    return Program(label, ("-c", code, *words, "--logtostderr"), port, "/health", variables or {})
