"""Sections `profile` and `layers`: stores alone."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .experiment import Names
from .texts import Path
from .values import Connections, Count, OrNull, Section, Several, Size, key


class _Alone(Section):
    scenarios: Names = key([], unit="names")
    """Scenarios whose store, connector and settings are taken; their chunk size plays no part."""
    connections: Annotated[Several[Connections], Field(min_length=1)] = key([2], unit="connections")
    """Parallel connections to a server, or threads in process; measured with each, whatever the scenario
    says."""
    point_bytes: Size = key("64 MiB")
    """Bytes set and got per point or layer, at least one value per connection."""
    warm_up_bytes: OrNull[Size] = None
    """Bytes set under other keys, untimed, before a server's first timed SET, so that its write buffers
    are in use and its memory is its own; null takes point_bytes."""
    repeats: Count = key(3, unit="repeats")
    """Independent repetitions, each on a fresh store; layers are paired differences within one."""


class Profile(_Alone):
    """GB/s against value size, each store alone."""

    value_bytes: Annotated[list[Size], Field(min_length=1)] = key(
        ["256 KiB", "1 MiB", "4 MiB", "16 MiB"], unit="bytes"
    )
    """Sizes of one value."""


class Layers(_Alone):
    """Where the time of a SET to a warm server and of a GET (cold from an SSD) goes, layer by layer, each store alone."""

    value_bytes: Annotated[list[Size], Field(min_length=1)] = key(["1 MiB", "16 MiB"])
    """Sizes of one value."""
    memory_dir: Path = key("/dev/shm")
    """Folder on a tmpfs, in which a job makes its own for the store's files when its device is taken out
    of the path. It needs twice the warm-up and three points; where it has less (Docker's /dev/shm has 64
    MiB), another tmpfs is taken, and without one the layers in memory are left out and say so."""
