"""Who can reach a server: on loopback this machine alone, anywhere else whoever gets there."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from ...plugin.lmcache_striped.deadline import Endpoint


def beyond_loopback(addresses: Iterable[str]) -> list[str]:
    """Those of a server's addresses that are not this machine's loopback, names and wildcards among them."""
    return [address for address in addresses if not _is_loopback(address)]


def warning(
    server: str,
    addresses: Sequence[str],
    password: bool,
    mend: str = "leave its bind out, or set password_file",
) -> str | None:
    """A line for a server that others can reach without a password, else None. addresses: where it listens."""
    open_ones = beyond_loopback(addresses)
    if not open_ones or password:
        return None
    return f"{server}: listens on {' '.join(open_ones)} without a password: anybody who reaches it can read and delete; {mend}"


def in_the_clear(server: str, endpoint: Endpoint) -> str | None:
    """A line for KV that crosses a network without TLS, else None. server: begins it."""
    if endpoint.path or endpoint.tls is not None or not beyond_loopback([endpoint.host]):
        return None
    return (
        f"{server}: KV goes to {endpoint.host}:{endpoint.port} in the clear: whoever reads that network can recover prompts from it; set "
        "place.tls, or keep that network to yourself (docs/cluster.md)"
    )


def _is_loopback(address: str) -> bool:
    word = address.removeprefix("-").strip("[]").partition("%")[0].lower()
    if word == "localhost":
        return True
    try:
        found = ipaddress.ip_address(word)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback
