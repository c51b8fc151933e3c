"""Requests to servers of a measurement: past every proxy, without what a user's ~/.netrc says of the host, and over in time."""

from __future__ import annotations

from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from ...plugin.lmcache_striped.deadline import Connected, Deadline, connected

_ANSWER_BYTES = 16 << 20


def request(method: str, url: str, timeout: float, **options: Any) -> requests.Response:
    """`requests.request` that reads nothing from the environment. Raises requests.RequestException.

    timeout: seconds until the last byte of the answer, see deadline.py; an answer may have 16 MiB.
    """
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", _Bounded(Deadline(timeout, _ANSWER_BYTES)))
        return session.request(method, url, **options)


class _Bounded(HTTPAdapter):
    """Requests that all end by one deadline."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        deadline = self._deadline

        class Connection(HTTPConnection):
            def _new_conn(self) -> Connected:
                try:
                    return connected(self.host, self.port, deadline)
                except TimeoutError as error:
                    raise ConnectTimeoutError(self, f"connecting to {self.host} timed out") from error
                except OSError as error:
                    raise NewConnectionError(self, f"cannot connect: {error}") from error

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection

        self.poolmanager.pool_classes_by_scheme = {"http": Pool}
