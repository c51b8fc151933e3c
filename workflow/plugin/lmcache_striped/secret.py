"""A password by reference: a configuration, a record and a command line say where it is, and who uses it reads it there."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError

KEYS = ("password_file", "password_env")


@dataclass(frozen=True)
class Secret:
    """Where a password is: in a file that its owner alone can read, or in an environment variable; one of both is None."""

    file: Path | None = None
    variable: str | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Secret | None:
        """The reference that `password_file` or `password_env` of `values` is, None without. Raises UserError for both."""
        file, variable = (values.get(key) for key in KEYS)
        if file is not None and variable is not None:
            raise UserError("password_env: password_file names a password, too; leave one of them out")
        if file is None and variable is None:
            return None
        return cls(None if file is None else Path(file), variable)

    def keys(self) -> dict[str, str]:
        """The reference as `of` takes it, with an absolute path, for a program that runs elsewhere."""
        if self.file is not None:
            return {"password_file": str(self.file.absolute())}
        return {"password_env": str(self.variable)}

    def value(self) -> str:
        """The password. Raises UserError, which never has it, when it is not there or others can read it."""
        if self.file is None:
            mend = f"export {self.variable} in the shell that starts the run"
            return _checked(os.environ.get(str(self.variable), ""), f"password_env: ${self.variable}", mend)
        where = f"password_file: {self.file}"
        try:
            with open(self.file, encoding="utf-8", newline="", opener=_without_waiting) as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(_LONGEST + 2) if stat.S_ISREG(mode) else None
        except UnicodeDecodeError:
            raise UserError(f"{where} is not text (UTF-8)") from None
        except OSError as error:
            raise UserError(
                f"{where}: {error.strerror}; write the password there, one line, mode 600"
            ) from error
        if text is None:
            raise UserError(f"{where} is no file; write the password into one, one line, mode 600")
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise UserError(
                f"{where} can be read by others (mode {stat.S_IMODE(mode):o}); chmod 600 {self.file}"
            )
        return _checked(text.removesuffix("\n").removesuffix("\r"), where, "write one there, one line")


_LONGEST = 512


def _checked(text: str, where: str, mend: str) -> str:
    if not text:
        raise UserError(f"{where} has no password; {mend}")
    if len(text) > _LONGEST or not text.isprintable():
        raise UserError(
            f"{where} is no password: it must be one line of at most {_LONGEST} printable characters"
        )
    return text


def _without_waiting(path: str, flags: int) -> int:
    """A named pipe's writer is not waited for."""
    return os.open(path, flags | os.O_NONBLOCK)
