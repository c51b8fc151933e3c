"""The exceptions that end a stage with one line instead of a traceback; the plugin raises two of them, too."""

from __future__ import annotations

from ...plugin.lmcache_striped.errors import StoreError, UserError, printable

__all__ = ["PassingError", "StoreDied", "StoreError", "UserError", "printable", "say"]


def say(line: str) -> None:
    """A line of this project's own for whoever watches the run."""
    print(f"hyperkv: {printable(line)}", flush=True)


class PassingError(UserError):
    """A failure that may be over the next time: a busy server, a connection that broke. Worth another attempt."""


class StoreDied(StoreError):
    """A store's process ended while it was being measured."""
