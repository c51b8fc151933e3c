"""A cluster that is there already: its nodes are found, and each is a server of its own but for the lease, which it has once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ....plugin.lmcache_striped.cluster import Cluster
from ....plugin.lmcache_striped.deadline import Endpoint, name_of
from ....plugin.lmcache_striped.slots import slot_of, tag_of
from ...base.errors import StoreError, UserError
from ..base import Store, StoreConfig
from ..redis_client import client_of
from ..sharded import ShardedStore
from .lease import KEY, NoLease
from .refusals import explained, require_reachable
from .store import PlacedStore

_ADDRESSES = "place.addresses"
_TIMEOUT_S = 10.0


class PlacedNode(PlacedStore):
    """One node with slots, the first of which is `slot`. leases: whether the cluster's lease is one of its keys."""

    in_cluster = True

    def __init__(self, config: StoreConfig, kind: type[Store], slot: int, leases: bool):
        super().__init__(config, kind)
        self.probe_tag = f"{{{tag_of(slot).decode()}}}"
        if not leases:
            self._lease = NoLease()


class PlacedCluster(ShardedStore):
    """The cluster that config.place names some nodes of. Its start finds the others, and refuses one that is not well."""

    is_cluster = True

    def __init__(self, config: StoreConfig, kind: type[Store]):
        assert config.place is not None
        self.name, self.medium, self._kind, self._place = kind.name, kind.medium, kind, config.place
        self.stores = []
        Store.__init__(self, config)

    def start(self) -> None:
        """Find the nodes and take them for this run. Raises UserError."""
        owners = self._owners()
        lease = owners[slot_of(KEY.encode())]
        nodes = list(dict.fromkeys([lease, *owners.values()]))
        for node in nodes:
            _require_reached(node, self._place.addresses)
        firsts = {node: slot for slot, node in sorted(owners.items(), reverse=True)}
        self.stores = [
            PlacedNode(self._part(node), self._kind, firsts[node], leases=node == lease) for node in nodes
        ]
        for number, store in enumerate(self.stores):
            try:
                store.start()
            except BaseException:
                for begun in self.stores[:number]:
                    begun.stop()
                raise

    def _owners(self) -> dict[int, Endpoint]:
        """The node of each slot. Raises UserError unless there is one for every slot."""
        endpoints, named = self._place.endpoints, ", ".join(self._place.addresses)
        cluster = Cluster(endpoints)
        try:
            if not cluster.is_one(_TIMEOUT_S * len(endpoints)):
                raise UserError(
                    f"place.cluster: {named} is no node of a cluster ({cluster.refusal}); leave it out"
                )
            if state := cluster.complaint(_TIMEOUT_S):
                raise UserError(f"{_ADDRESSES}: {state}; mend the cluster")
        except StoreError as error:
            for endpoint, where in zip(endpoints, self._place.addresses, strict=True):
                require_reachable(endpoint, where)
                with explained(endpoint, where), client_of(endpoint, _TIMEOUT_S) as client:
                    client.ping()
            raise UserError(
                f"{_ADDRESSES}: no node of the cluster says which slots it has: {error}"
            ) from None
        return cluster.owners

    def _part(self, node: Endpoint) -> StoreConfig:
        return replace(self.config, place=replace(self._place, addresses=(name_of(node),)))

    def notes(self) -> list[str]:
        return [line for store in self.stores for line in store.notes()]


def _require_reached(node: Endpoint, addresses: Sequence[str]) -> None:
    """That a node can be reached where the cluster says it is. Raises UserError."""
    where = name_of(node)
    try:
        require_reachable(node, where)
    except UserError as error:
        if where in addresses:
            raise
        raise UserError(
            f"{error}; the cluster says that a node is there: start it, or have it announce an address that can be reached from here "
            "(cluster-announce-ip)"
        ) from None
