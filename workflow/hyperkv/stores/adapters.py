"""Stores that LMCache's server keeps in a folder by an L2 adapter of its own; engine vllm alone has them.

The adapters' keys are those of LMCache 0.5 (lmcache/v1/distributed/l2_adapters).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from ..base.errors import UserError
from .base import Counters, Look, Store
from .held import Held
from .owned_keys import ITS_FOLDER, Owned

_BLOCK = 4096
_HEADER_BYTES = 4096
_INDEX_BYTES = 8 << 20
_INDEX_BYTES_PER_SLOT = 1024
_WORDS = {"yes": True, "no": False, "true": True, "false": False}
_OURS = (
    Owned(("type", "affinity_tag", "shared"), "its store and connector are; leave it out"),
    Owned(("base_path", "device_path", "backend_params", "file_path"), ITS_FOLDER),
    Owned(("num_workers", "num_load_workers"), "set connections of the scenario"),
    Owned(("serde",), "set serde of the scenario"),
    Owned(
        ("eviction", "persist*", "max_capacity_gb", "capacity_bytes"),
        "it keeps all that is saved; leave it out",
    ),
)


class EngineStore(Store):
    """A store that a real engine holds in files, and that nothing else reaches."""

    medium = "ssd"
    held_by_engine = "folder"
    engine_reads_settings = True

    @classmethod
    def has_setting(cls, key: str) -> bool:
        return not any(owned.has(key) for owned in cls.owned_keys)

    def _refused(self) -> NoReturn:
        raise UserError(f"store {self.name} is an engine's own; engine vllm alone has it")

    def start(self) -> None:
        self._refused()

    def stop(self) -> None:
        """Nothing was started."""

    def restart(self) -> None:
        self._refused()

    def check_alive(self, grace_s: float = 0.0) -> None:
        self._refused()

    def counters(self) -> Counters:
        self._refused()

    def pid(self) -> int:
        self._refused()


class AdapterStore(EngineStore):
    """One of LMCache's own L2 adapters. `settings` are the adapter's keys beside those that the workflow sets; yes and no are true
    and false there.
    """

    connectors = ("mp",)
    owned_keys: ClassVar[tuple[Owned, ...]] = _OURS

    @classmethod
    def l2_adapter(cls, held: Held) -> dict[str, Any]:
        own = {key: _WORDS.get(str(value), value) for key, value in held.settings.items()}
        return {"type": cls.name, **cls.adapter_keys(held), **own}

    @classmethod
    @abstractmethod
    def adapter_keys(cls, held: Held) -> Mapping[str, Any]:
        """What the adapter is told beside its type."""


class FsNativeStore(AdapterStore):
    """A file per value, moved by LMCache's compiled threads past the page cache."""

    name = "fs_native"
    look: ClassVar[Look] = Look("#E69F00", "<", "h")

    @classmethod
    def adapter_keys(cls, held: Held) -> Mapping[str, Any]:
        return {"base_path": str(held.folder), "num_workers": held.connections, "use_odirect": True}


class RawBlockStore(AdapterStore):
    """Slots of equal size in one file that is there from the start, as on a raw device, by package lmcache-rust-raw-block-io.

    The file holds twice what is saved: without room LMCache saves nothing more.
    """

    name = "raw_block"
    look: ClassVar[Look] = Look("#332288", ">", "X")
    owned_keys: ClassVar[tuple[Owned, ...]] = (
        *_OURS,
        Owned(("slot_bytes", "header_bytes", "block_align"), "a slot holds one value; leave it out"),
        Owned(("meta_*", "load_checkpoint_on_init"), "each job begins with an empty file; leave it out"),
    )

    @classmethod
    def adapter_keys(cls, held: Held) -> Mapping[str, Any]:
        return {
            "device_path": str(_image(held)),
            "slot_bytes": _slot_bytes(held),
            "meta_total_bytes": _index_bytes(held),
            "use_odirect": True,
            "num_load_workers": held.connections,
        }

    @classmethod
    def sized_file(cls, held: Held) -> tuple[Path, int]:
        return _image(held), 2 * _index_bytes(held) + _slots(held) * _slot_bytes(held)


class NixlStore(AdapterStore):
    """A file per value, moved by NIXL: setting `backend` is POSIX, which is the default, GDS or another one of its file plugins; the
    other settings are the plugin's. Packages nixl and nixl-cu13.
    """

    name = "nixl"
    look: ClassVar[Look] = Look("#882255", "*", "$N$")

    @classmethod
    def adapter_keys(cls, held: Held) -> Mapping[str, Any]:
        own = {key: str(value) for key, value in held.settings.items()}
        backend = own.pop("backend", "POSIX")
        room = -(-2 * held.saved_bytes >> 30) + 1
        parameters = {"file_path": str(held.folder), "use_direct_io": "true", "max_capacity_gb": str(room)}
        return {"type": "nixl_store_dynamic", "backend": backend, "backend_params": parameters | own}

    @classmethod
    def l2_adapter(cls, held: Held) -> dict[str, Any]:
        return dict(cls.adapter_keys(held))

    @classmethod
    def bypasses_processes(cls, settings: Mapping[str, Any]) -> bool:
        return str(settings.get("backend", "")).startswith("GDS")


def _image(held: Held) -> Path:
    return held.folder / "slots.img"


def _slot_bytes(held: Held) -> int:
    return _HEADER_BYTES + -(-held.value_bytes // _BLOCK) * _BLOCK


def _slots(held: Held) -> int:
    return -(-2 * held.saved_bytes // held.value_bytes)


def _index_bytes(held: Held) -> int:
    """Room for LMCache's own index of the slots, written once in a while."""
    return _INDEX_BYTES + -(-_slots(held) * _INDEX_BYTES_PER_SLOT // _BLOCK) * _BLOCK
