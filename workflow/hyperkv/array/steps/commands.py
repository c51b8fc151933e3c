"""Steps of a plan as a shell would take them, and the one place that runs them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...machine.probe import Output, call
from ..refusal import FAILED, IN_USE, ArrayError
from .boot_files import lines_of
from .identity import device_identity
from .rewrite import replace_text
from .samples import BLOCK_BYTES, places, zero

BACKUP = ".before-hyperkv"


@dataclass(frozen=True)
class Same:
    """A device that a step destroys something on: it has to be, when the step begins, the one that was looked at.

    identity: some of what device_identity() tells of its path; without any nothing is known to compare.
    """

    path: str
    identity: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """A command. fails_as: exit status of the stage when it fails. timeout_s: longest time it may take. on: its devices."""

    argv: tuple[str, ...]
    fails_as: int = FAILED
    timeout_s: float = 120.0
    on: tuple[Same, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        return shlex.join(self.argv)


@dataclass(frozen=True)
class Edit:
    """Take lines out of a text file and put one in, at the place of the first of them or at the end.

    before: the file as it was looked at, '' for one that is not there. drop: numbers of lines, from 1, ascending.
    """

    path: str
    before: str
    drop: tuple[int, ...] = ()
    add: str | None = None

    @property
    def after(self) -> str:
        """The file's text afterwards; what is not dropped stays as it is."""
        lines = lines_of(self.before)
        at = self.drop[0] - 1 if self.drop else len(lines)
        head = "".join(line for number, line in enumerate(lines[:at], 1) if number not in self.drop)
        tail = "".join(line for number, line in enumerate(lines[at:], at + 1) if number not in self.drop)
        if self.add is None:
            return head + tail
        return f"{head}\n{self.add}\n" if head and not head.endswith("\n") else f"{head}{self.add}\n{tail}"

    def __str__(self) -> str:
        path = shlex.quote(self.path)
        if not self.drop and self.add is not None and (not self.before or self.before.endswith("\n")):
            return f"printf '%s\\n' {shlex.quote(self.add)} >> {path}"
        text = (self.add or "").replace("\\", "\\\\")
        words = [f"{number}d" for number in self.drop]
        if self.add is not None:
            words = [f"{self.drop[0]}c{text}", *words[1:]] if self.drop else [f"$a{text}"]
        expressions = " ".join(f"-e {shlex.quote(word)}" for word in words)
        return f"sed -i{BACKUP if self.drop else ''} --follow-symlinks {expressions} {path}"


@dataclass(frozen=True)
class Zero:
    """Write zeros to the places of a disk that a look samples, so that it counts as blank."""

    path: str
    size_bytes: int
    on: tuple[Same, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        numbers = [
            f"seq {part.start} {part.step} {part[-1]}" for part in reversed(places(self.size_bytes)) if part
        ]
        write = f"dd if=/dev/zero of={shlex.quote(self.path)} bs={BLOCK_BYTES} count=1 seek=$at conv=notrunc status=none"
        return f"{{ {'; '.join(numbers)}; }} | while read at; do {write}; done"


Step = Run | Edit | Zero


def execute(
    steps: Sequence[Step],
    say: Callable[[str], None],
    identify: Callable[[str], tuple[str, ...]] = device_identity,
) -> None:
    """Carry out steps in order, each announced as `+ command`. identify: what a device is, at that moment.

    Raises ArrayError at the first that fails, and before one whose device is another than was looked at.
    """
    for step in steps:
        say(f"+ {step}")
        if isinstance(step, Run):
            _require_same(step, identify)
            done = call(step.argv, step.timeout_s)
            if done.status:
                raise ArrayError.of(step.fails_as, _failure(step, done))
        elif isinstance(step, Zero):
            _require_same(step, identify)
            _zero(step)
        else:
            _edit(step)
            if step.drop:
                say(f"  {step.path}{BACKUP} has it as it was before")


def _require_same(step: Run | Zero, identify: Callable[[str], tuple[str, ...]]) -> None:
    for device in step.on:
        there = identify(device.path)
        if gone := [word for word in device.identity if word not in there]:
            now = ", ".join(there) or "no device"
            text = (
                f"{device.path}: not the device that was looked at ({', '.join(gone)}), it is {now} now; `{step}` was not run; "
                f"run again"
            )
            raise ArrayError.of(IN_USE, text)


def _zero(step: Zero) -> None:
    try:
        zero(step.path)
    except OSError as error:
        text = f"{step.path}: zeros cannot be written ({error.strerror or error}); mend that and run again"
        raise ArrayError.of(FAILED, text) from error


def _failure(step: Run, done: Output) -> str:
    said = [line.strip() for line in f"{done.text}\n{done.errors}".splitlines() if line.strip()]
    return f"`{step}` failed (status {done.status}): {said[-1] if said else 'it said nothing'}; mend that and run again"


def _edit(step: Edit) -> None:
    """Carry out an edit. Raises ArrayError when the file is another than was looked at, or cannot be written."""
    try:
        replace_text(Path(step.path), step.before, step.after, BACKUP if step.drop else None)
    except OSError as error:
        why = error.strerror or str(error)
        text = f"{step.path}: cannot be changed ({why}); mend that and run again, or set array.persist: false"
        raise ArrayError.of(FAILED, text) from error
