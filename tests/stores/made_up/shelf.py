"""Store `shelf`, which nobody has: a RESP server with a setting, a configuration file and a look of its own."""

from workflow.hyperkv.stores.base import Look
from workflow.hyperkv.stores.owned_keys import ITS_FOLDER, ITS_PORT, Owned
from workflow.hyperkv.stores.server import ServerStore
from workflow.hyperkv.stores.valkey import valkey_binary


class ShelfStore(ServerStore):
    """A Valkey that reads its settings from a file."""

    name = "shelf"
    medium = "ram"
    look = Look("#F0E442", "X", "*")
    owned_keys = (Owned(("port",), ITS_PORT), Owned(("dir",), ITS_FOLDER))
    conf_name = "shelf.conf"

    def configuration(self, port: int, password: str | None) -> str | None:
        return "".join(f'{key} "{value}"\n' for key, value in self.wanted(port).items())

    def wanted(self, port: int) -> dict[str, str]:
        own = {"bind": "127.0.0.1", "save": "", **self.config.settings}
        return {key: str(value) for key, value in own.items()}

    def command(self, port: int) -> list[str]:
        return [valkey_binary(), str(self.conf), "--dir", str(self.config.directory), "--port", str(port)]
