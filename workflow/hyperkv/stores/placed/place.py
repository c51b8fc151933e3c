"""Where servers are that are there already, and what is ours in them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ....plugin.lmcache_striped.deadline import Endpoint
from ....plugin.lmcache_striped.secret import Secret
from ....plugin.lmcache_striped.tls import Tls

NAMESPACE = "hyperkv:"


@dataclass(frozen=True)
class Network:
    """What the network to a server gives. round_trip_s: median of PING. gbps: 10^9 bytes per second of one value that is got again and
    again over four connections.
    """

    round_trip_s: float
    gbps: float


@dataclass(frozen=True)
class Place:
    """A scenario's `place`. cluster: whether its addresses are nodes of one. run: names what one start of the store saves there: every key of it begins with `prefix`.

    metrics_url, metrics_device: page of the servers' host that tells what a device of it read, None where nobody does.
    """

    addresses: tuple[str, ...]
    user: str | None = None
    password: Secret | None = None
    tls: Tls | None = None
    consent: bool = False
    cluster: bool = False
    metrics_url: str | None = None
    metrics_device: str | None = None
    run: str = ""

    @classmethod
    def of(cls, scenario: Mapping[str, Any]) -> Place | None:
        """A scenario's, with a name for a new run; None where the store is started by the job."""
        given = scenario.get("place")
        if given is None:
            return None
        tls = None if given["tls"] is None else Tls.of(given["tls"])
        own = {key: given[key] for key in ("user", "consent", "cluster", "metrics_url", "metrics_device")}
        return cls(
            tuple(given["addresses"]), password=Secret.of(scenario), tls=tls, run=secrets.token_hex(4), **own
        )

    @property
    def prefix(self) -> str:
        return f"{NAMESPACE}{self.run}:"

    def part(self, index: int) -> Place:
        """One of its servers alone, of the same run."""
        return replace(self, addresses=(self.addresses[index],))

    @property
    def endpoints(self) -> list[Endpoint]:
        """Its servers, in the order of the addresses."""
        found = []
        for address in self.addresses:
            host, _, port = address.rpartition(":")
            at = Endpoint(host.strip("[]"), int(port), self.password)
            found.append(replace(at, user=self.user, tls=self.tls, prefix=self.prefix))
        return found
