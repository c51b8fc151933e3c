"""A RESP server that stores nothing, started and ended as the stores are. No scenario has it: it is a rung of the layers."""

from __future__ import annotations

import sys

from ..machine.processes import option_words
from ..stores.server import ServerStore


class NullStore(ServerStore):
    """The server of null_server.py. settings: memory_bytes, get_delay_s (a fault, for tests)."""

    name = "null"
    medium = "ram"

    def command(self, port: int) -> list[str]:
        settings = {"port": port, "value_bytes": self.config.value_bytes, **self.config.settings}
        options = option_words({key.replace("_", "-"): value for key, value in settings.items()})
        return [sys.executable, "-m", "workflow.hyperkv.profile.null_server", *options]
