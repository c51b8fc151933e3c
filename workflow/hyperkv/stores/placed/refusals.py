"""Why a server that is there already cannot be used, in one line each."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Any

import redis

from ....plugin.lmcache_striped.deadline import Deadline, Endpoint, connected
from ....plugin.lmcache_striped.tls import Tls, secured
from ...base.errors import StoreError, UserError

_CONNECT_S = 10.0
_ADDRESSES = "place.addresses"
_NO_WRITES = ("NOREPLICAS", "MISCONF", "MASTERDOWN")
GRANTED = "~hyperkv:* +@read +@write +@keyspace +@connection -@dangerous +info +client|list"


def require_reachable(endpoint: Endpoint, where: str) -> None:
    """That something accepts connections there, with TLS where that is asked for. Raises UserError."""
    deadline = Deadline(_CONNECT_S)
    try:
        connection = connected(endpoint.host, endpoint.port, deadline)
    except TimeoutError:
        raise UserError(
            f"{_ADDRESSES}: {where} does not answer within {_CONNECT_S:g} s; is it the right address?"
        ) from None
    except OSError as error:
        raise UserError(
            f"{_ADDRESSES}: {where} does not answer: {error.strerror or error}; start the store there, or mend the address"
        ) from None
    with contextlib.closing(connection):
        if endpoint.tls is not None:
            _require_tls(connection, endpoint, endpoint.tls, where)


def _require_tls(connection: socket.socket, endpoint: Endpoint, tls: Tls, where: str) -> None:
    try:
        secured(connection, tls, endpoint.host, Deadline(_CONNECT_S)).close()
    except ssl.SSLCertVerificationError as error:
        raise UserError(
            f"place.tls: {where} is not trusted: {error.verify_message}; name who signed its certificate in tls.ca_file"
        ) from None
    except OSError as error:
        why = getattr(error, "reason", None) or error.strerror or error
        raise UserError(
            f"place.tls: {where} does not speak TLS with us ({why}); name its TLS port, set tls.cert_file where it asks for one, or leave "
            "tls out"
        ) from None


@contextlib.contextmanager
def explained(endpoint: Endpoint, where: str) -> Iterator[None]:
    """What the server refuses in the block, to redis-py or to a client of ours, is raised as a UserError that says what to mend."""
    try:
        yield
    except (redis.RedisError, StoreError) as error:
        raise UserError(_line(error, endpoint, where)) from None


def _line(error: redis.RedisError | StoreError, endpoint: Endpoint, where: str) -> str:
    text = str(error)
    if "max number of clients" in text:
        return f"{_ADDRESSES}: {where} takes no more connections ({text}); raise its maxclients, or wait until others have left"
    if isinstance(error, redis.exceptions.BusyLoadingError) or text.startswith("LOADING"):
        return f"{_ADDRESSES}: {where} is loading its data; wait until it has"
    if isinstance(error, redis.exceptions.ReadOnlyError) or text.startswith("READONLY"):
        return _replica(where, "")
    if endpoint.password is not None and "did not take the password" in text:
        user = "" if endpoint.user is None else f" of user {endpoint.user}"
        return f"password_file: {where} did not take the password{user}; mend the file, or place.user"
    if "NOAUTH" in text or "Authentication required" in text or isinstance(error, redis.AuthenticationError):
        return f"password_file: {where} asks for a password; name a file that has it, or password_env"
    if isinstance(error, redis.exceptions.NoPermissionError) or "NOPERM" in text:
        return f"place.user: {where} does not let this user do it ({text}); grant {_granted(text)}, or name another user"
    if isinstance(error, redis.exceptions.OutOfMemoryError) or "maxmemory" in text:
        return f"{_ADDRESSES}: {where} takes no more values: {text}; raise its maxmemory"
    if any(word in text for word in _NO_WRITES):
        return f"{_ADDRESSES}: {where} takes no writes now ({text}); mend it, or name another server"
    if isinstance(error, redis.TimeoutError):
        return f"{_ADDRESSES}: {where} accepts connections and does not answer PING; is it a store, and does it live?"
    if isinstance(error, StoreError):
        return f"{_ADDRESSES}: {where}: {text}; is its maxclients more than it has clients, and does it live?"
    if isinstance(error, redis.ConnectionError) and endpoint.tls is not None:
        return f"place.tls: {where} closed the connection ({text}); set tls.cert_file where it asks for a client's certificate"
    if isinstance(error, redis.ConnectionError | redis.exceptions.InvalidResponse):
        return f"{_ADDRESSES}: {where} does not speak RESP in the clear ({text}); set place.tls where it speaks TLS, or mend the address"
    return f"{_ADDRESSES}: {where}: {text}; mend the server, or name another one"


def _granted(text: str) -> str:
    """What a user needs, what only place.consent needs among it where that was refused."""
    return f"{GRANTED} +flushall" if "flushall" in text else GRANTED


def _replica(where: str, primary: str) -> str:
    return f"{_ADDRESSES}: {where} is a replica, which takes no writes; name its primary{primary}"


def require_usable(info: Mapping[str, Any], where: str, in_cluster: bool = False) -> None:
    """That a server's INFO is of one that takes writes, by itself unless it is to be in a cluster. Raises UserError."""
    if info.get("loading"):
        raise UserError(f"{_ADDRESSES}: {where} is loading its data; wait until it has")
    if info.get("role") in ("slave", "replica"):
        host, port = info.get("master_host"), info.get("master_port")
        raise UserError(_replica(where, f", {host}:{port}" if host else ""))
    if info.get("cluster_enabled") and not in_cluster:
        raise UserError(
            f"{_ADDRESSES}: {where} is a node of a cluster; set place.cluster: true, or name servers of their own"
        )


def require_kind(info: Mapping[str, Any], name: str, where: str) -> None:
    """That a store which is held to be in memory is no Kvrocks, whose values are on a disk. Raises UserError."""
    if name != "kvrocks" and "kvrocks_version" in info:
        raise UserError(
            f"{_ADDRESSES}: {where} is a Kvrocks, whose values are on a disk; set store: kvrocks and tier: ssd, or name a Valkey"
        )


def require_room(
    info: Mapping[str, Any], saved_bytes: int, others: int | None, consent: bool, where: str
) -> None:
    """That what is to be saved fits, or drives out nothing of others. others: keys that are not ours, None for not known.

    Raises UserError.
    """
    most, used = info.get("maxmemory") or info.get("total_system_memory"), info.get("used_memory")
    if not most or used is None or "kvrocks_version" in info or used + saved_bytes <= most:
        return
    told = f"{_ADDRESSES}: {where} holds {_size(used)} of at most {_size(most)}, and {_size(saved_bytes)} are to be saved"
    if not info.get("maxmemory") or info.get("maxmemory_policy") == "noeviction":
        raise UserError(f"{told}, which it refuses; raise its maxmemory or take a smaller workload")
    if others != 0 and not consent:
        raise UserError(
            f"{told}, which drives out keys of others ({info['maxmemory_policy']}); raise its maxmemory, take a smaller workload, or "
            "set place.consent: true, with which all of them are deleted"
        )


def _size(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"
