"""A RESP server that stores nothing, started and ended as the stores are. No scenario has it: it is a rung of the layers."""

from __future__ import annotations

import sys

from ..stores.server import ServerStore


class NullStore(ServerStore):
    """The server of null_server.py. settings: memory_bytes, get_delay_s (a fault, for tests)."""

    name = "null"
    medium = "ram"

    def command(self, port: int) -> list[str]:
        settings = {"value_bytes": self.config.value_bytes, **self.config.settings}
        options = [
            word for key, value in settings.items() for word in (f"--{key.replace('_', '-')}", str(value))
        ]
        return [sys.executable, "-m", "workflow.hyperkv.profile.null_server", "--port", str(port), *options]
