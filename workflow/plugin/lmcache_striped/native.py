"""Stripes received by compiled code, native.c: one call per connection and load, outside Python's lock."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .channels import Channel
from .deadline import COMMAND_BYTES, LEAST_BYTES_PER_S, Deadline
from .errors import StoreError, UserError
from .exchanges import Load
from .stripes import HEAD_BYTES

INSTALLED = Path(__file__).with_name("_striped.abi3.so")  # made by installing the package

_SAID_BYTES = 512
SAID_BYTES = 256  # of what a server refused, for each connection, as locate.c has it
_CLOSED, _NOT_RESP, _TOO_MUCH, _LONG_LINE, _NOT_AS_LONG = range(-1, -6, -1)
_REFUSED = -2
_STRIPE = np.dtype(
    [
        ("request", np.uint64),
        ("request_bytes", np.uint64),
        ("place", np.uint64),
        ("room", np.uint64),
        ("checksum", np.uint64),
        ("length", np.int64),
        ("head", "V64"),
    ]
)


def function_of(path: Path, name: str) -> Any:
    """A function of the library at `path`. Raises UserError when there is none that fits."""
    try:
        return getattr(ctypes.CDLL(os.fspath(path.absolute())), name)
    except (OSError, AttributeError) as error:
        raise UserError(
            f"client native: {path} cannot be used ({error}); install this package where there are a C compiler and "
            f"xxhash.h (Debian: gcc, libxxhash-dev), or choose client python"
        ) from error


class Time(ctypes.Structure):
    """A Deadline as native.c has it."""

    _fields_: ClassVar = [
        ("timeout_s", ctypes.c_double),
        ("left_s", ctypes.c_double),
        ("bytes_per_s", ctypes.c_double),
        ("bytes", ctypes.c_uint64),
        ("command_bytes", ctypes.c_uint64),
    ]

    @classmethod
    def left_of(cls, deadline: Deadline, size: int) -> Time:
        """What is left of a deadline for `size` bytes of it, commands included."""
        return cls(deadline.timeout_s, deadline.left_s(), LEAST_BYTES_PER_S, size, COMMAND_BYTES)


class NativeLoads:
    """Loads of stripes through the library at `path`. Raises UserError when there is none that fits."""

    def __init__(self, path: Path):
        self._get = function_of(path, "striped_load")
        self._get.restype = ctypes.c_int
        self._get.argtypes = [
            ctypes.c_int,
            ctypes.c_void_p,
            *[ctypes.c_uint64] * 3,
            ctypes.POINTER(Time),
            ctypes.c_void_p,
            ctypes.c_uint64,
        ]

    def run(self, channel: Channel, stripes: Sequence[Load], deadline: Deadline) -> list[tuple[Load, str]]:
        """See every stripe to its end on one connection, by the deadline, and tell its proof what came. Raises StoreError.

        The memory at the addresses must stay until then. Errors are as of Channel.answered; of what was refused the first
        reason is said.
        """
        asked = np.zeros(len(stripes), _STRIPE)
        texts = [part for stripe in stripes for part in stripe.request()]
        requests, sizes = b"".join(texts), [len(text) for text in texts]
        text = ctypes.create_string_buffer(requests, len(requests))
        asked["request"] = ctypes.addressof(text) + np.cumsum([0, *sizes[:-1]])
        asked["request_bytes"] = sizes
        asked["place"] = [stripe.address for stripe in stripes]
        asked["room"] = [stripe.part.length for stripe in stripes]
        said = ctypes.create_string_buffer(_SAID_BYTES)
        moved = sum(HEAD_BYTES + stripe.part.length + COMMAND_BYTES for stripe in stripes)
        with channel.descriptor(deadline) as descriptor:
            time = Time.left_of(deadline, moved)
            counts = (len(asked), channel.in_flight, HEAD_BYTES)
            code = self._get(descriptor, asked.ctypes.data, *counts, ctypes.byref(time), said, _SAID_BYTES)
            if code:
                raise failure(channel, code, said.value)
        lengths, checksums = asked["length"].tolist(), asked["checksum"].tolist()
        heads = asked["head"].tobytes()
        for number, (stripe, length) in enumerate(zip(stripes, lengths, strict=True)):
            if length == HEAD_BYTES + stripe.part.length:
                start = 64 * number
                stripe.proof.arrived(stripe.part, heads[start : start + HEAD_BYTES], checksums[number])
        reason = said.value.decode(errors="replace")
        return [
            (stripe, reason) for stripe, length in zip(stripes, lengths, strict=True) if length == _REFUSED
        ]


def failure(channel: Channel, code: int, said: bytes, command: str = Load.name) -> StoreError:
    """What a result of the library above or below 0 says of a connection."""
    peer = channel.peer
    words = {
        _CLOSED: f"{peer} closed the connection in the middle of a reply",
        _NOT_RESP: f"{peer} answered {command} with {said[:80]!r}",
        _TOO_MUCH: f"{peer} sent more than it was asked for",
        _LONG_LINE: f"{peer} sent a line of more than 4096 bytes",
        _NOT_AS_LONG: f"{peer} sent a value that is not as long as it says",
        errno.ETIMEDOUT: f"receive timed out after {channel.timeout_s:g} s at {peer}",
    }
    return StoreError(words.get(code) or f"receive failed at {peer}: {os.strerror(code)}")
