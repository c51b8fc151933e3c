"""From the config's word to a connector, importing only that connector's module."""

from __future__ import annotations

from importlib import import_module

from ..errors import UserError
from ..stores.base import Store
from .base import Connector

CONNECTOR_CLASSES = {"inprocess": "InprocessConnector", "redis": "RedisConnector", "resp": "RespConnector"}


def make_connector(name: str, store: Store, connections: int, timeout_s: float = 30.0) -> Connector:
    """The named connector, connected to a started store. Raises UserError when the two do not fit."""
    connector = getattr(import_module(f"{__package__}.{name}"), CONNECTOR_CLASSES[name])
    if name == "inprocess":
        return connector(store, connections)
    endpoint = getattr(store, "endpoint", None)
    if endpoint is None:
        raise UserError(f"connector {name} cannot reach store {store.name}; use inprocess")
    return connector(endpoint, connections, timeout_s)
