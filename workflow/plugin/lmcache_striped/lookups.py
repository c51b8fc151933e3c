"""Lookups of all servers at once: by compiled code, lookup.c, in one call outside Python's lock, or by a thread for each connection."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from .channels import MOST_IN_FLIGHT, Channel
from .deadline import COMMAND_BYTES, Deadline
from .exchanges import Lookup
from .late import Late
from .native import SAID_BYTES, Time, failure, function_of

Work = Mapping[Channel, list[Lookup]]
Refusals = list[tuple[Channel, Any, str]]  # a command that was refused where, and what was said
_GONE, _REFUSED = -6, 2


class _Question(ctypes.Structure):
    """A connection and what it is asked, as lookup.c has it."""

    _fields_: ClassVar = [
        ("fd", ctypes.c_int32),
        ("status", ctypes.c_int32),
        ("request", ctypes.c_char_p),
        ("request_bytes", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
        ("found", ctypes.c_void_p),
        ("after_s", ctypes.c_double),
        ("said", ctypes.c_char * SAID_BYTES),
    ]


class Lookups:
    """library: see native.py, None for Python. late: is told when each connection has answered. Raises UserError when the library does
    not fit."""

    def __init__(self, library: Path | None, late: Late):
        self._late = late
        self._exists = None
        if library is not None:
            self._exists = function_of(library, "striped_exists")
            self._exists.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.POINTER(Time)]

    def of_one(self, channel: Channel, lookups: list[Lookup], deadline: Deadline) -> list[tuple[Lookup, str]]:
        """Ask one connection, and return what was refused, and why. Raises StoreError."""
        begun = time.monotonic()
        refused = channel.answered(lookups, deadline, MOST_IN_FLIGHT)
        self._late.answered(channel, time.monotonic() - begun)
        return refused

    def of_all(
        self, by_threads: Callable[[Work, Deadline], Refusals], work: Work, deadline: Deadline
    ) -> Refusals:
        """Ask all connections, and return what was refused, with the first reason of its connection. by_threads: asks those that have to
        be opened, or are to have more than MOST_IN_FLIGHT. Raises StoreError when all that were asked have ended.
        """
        if self._exists is None:
            return by_threads(work, deadline)
        stand = {
            channel: descriptor
            for channel, lookups in work.items()
            if len(lookups) <= MOST_IN_FLIGHT and (descriptor := channel.lent()) is not None
        }
        questions = (_Question * len(stand))()
        answers = []
        for question, (channel, descriptor) in zip(questions, stand.items(), strict=True):
            request = b"".join(part for lookup in work[channel] for part in lookup.request())
            answers.append(ctypes.create_string_buffer(len(work[channel])))
            question.fd, question.request, question.request_bytes = descriptor, request, len(request)
            question.count, question.found = len(work[channel]), ctypes.addressof(answers[-1])
        commands = COMMAND_BYTES * sum(len(work[channel]) for channel in stand)
        if self._exists(questions, len(stand), ctypes.byref(Time.left_of(deadline, commands))):
            raise MemoryError("of a lookup")
        refused: Refusals = []
        failures = []
        left = {channel: lookups for channel, lookups in work.items() if channel not in stand}
        for question, channel, found in zip(questions, stand, answers, strict=True):
            if question.status:
                channel.close()
            if question.status == _GONE:
                left[channel] = work[channel]
            elif question.status:
                failures.append(failure(channel, question.status, question.said, Lookup.name))
            else:
                self._late.answered(channel, question.after_s)
                said = question.said.decode(errors="replace")
                for lookup, answer in zip(work[channel], found.raw, strict=True):
                    lookup.present = answer == 1
                    refused += [(channel, lookup, said)] if answer == _REFUSED else []
        if failures:
            raise failures[0]
        deadline.moved(commands)
        return refused + (by_threads(left, deadline) if left else [])
