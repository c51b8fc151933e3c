"""What a real engine that holds a store itself, in its own memory or files, is told of it, and what that store needs beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ..base.errors import UserError
from ..models.geometry import Geometry
from ..models.gpus import KvShare
from ..models.serde import serde_keys


@dataclass(frozen=True)
class Held:
    """What an engine that holds a store itself is told of it.

    folder: where its files go. value_bytes: of one value of a chunk. saved_bytes: that it is given to keep, at least. settings:
    the store's own keys. serde: what LMCache's server shrinks values with, whatever the store.
    buffer_bytes: of host memory in front, is_pool: which keeps what it can. ports: free ones for its programs.
    """

    folder: Path
    value_bytes: int = 0
    saved_bytes: int = 0
    connections: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    serde: Mapping[str, Any] | None = None
    buffer_bytes: int = 0
    is_pool: bool = False
    ports: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        scenario: Mapping[str, Any],
        folder: Path,
        share: KvShare,
        geometry: Geometry,
        saved_bytes: int,
        buffer_bytes: int,
        ports: tuple[int, ...],
    ) -> Held:
        """Of a scenario, by the keys of its slice of the config."""
        serde = scenario.get("serde")
        return cls(
            folder.absolute(),
            share.value_bytes(scenario.get("chunk_tokens", 0)),
            saved_bytes,
            scenario.get("connections", 0),
            scenario.get("settings", {}),
            serde_keys(serde, geometry) if serde else None,
            buffer_bytes,
            bool(scenario.get("dram_pool_bytes")),
            ports,
        )


@dataclass(frozen=True)
class Program:
    """One that an engine's own store needs beside the engine, run by the engine's interpreter and ready before it starts.

    words: after the interpreter. port: on loopback, with the page `health`. environment: beside the engine's.
    """

    label: str
    words: tuple[str, ...]
    port: int
    health: str
    environment: Mapping[str, str] = field(default_factory=dict)


class HeldByEngine:
    """Part of a store's class. held_by_engine: "pool" or "folder" where an engine keeps the values in its own memory or files, and no
    store is started. engine_reads_settings: whether it is then given `settings`.
    """

    name: str
    held_by_engine: ClassVar[str | None] = None
    engine_reads_settings: ClassVar[bool] = False

    @classmethod
    def l2_adapter(cls, held: Held) -> dict[str, Any] | None:
        """What `lmcache server --l2-adapter` takes where the server holds the store in a folder; None for the others."""
        return None

    @classmethod
    def sized_file(cls, held: Held) -> tuple[Path, int] | None:
        """A file of so many bytes that must be there before the engine starts, None for none."""
        return None

    @classmethod
    def prepare(cls, held: Held) -> None:
        """Make these files. Raises UserError when one does not fit."""
        for path, text in cls.texts(held).items():
            path.write_text(text)
        if (found := cls.sized_file(held)) is None:
            return
        path, size = found
        try:
            with path.open("xb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise UserError(
                f"store {cls.name}: no file of {size / 1e9:.1f} GB at {path}: {error.strerror}; choose another data_dir"
            ) from error

    @classmethod
    def texts(cls, held: Held) -> dict[Path, str]:
        """Files that the engine reads, by their paths."""
        return {}

    @classmethod
    def variables(cls, held: Held) -> dict[str, str]:
        """Environment variables of the engine."""
        return {}

    @classmethod
    def beside_engine(cls, held: Held) -> tuple[Program, ...]:
        """What is started before the engine, in order."""
        return ()

    @classmethod
    def bypasses_processes(cls, settings: Mapping[str, Any]) -> bool:
        """Whether a device moves its bytes past the processes that ask for them, so that only the device counts them."""
        return False
