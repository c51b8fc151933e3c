"""That a store which is there already, or on the job's other node, can be reached by what the scenario has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....plugin.lmcache_striped.secret import Secret
from ....plugin.lmcache_striped.tls import Tls, context_of
from ...base.errors import UserError
from ...connectors.registry import STRIPED
from ...stores.base import DIRECT
from ...stores.kvrocks.config import BY_KEYS_PATCH
from ...stores.registry import store_class
from ..models.scenario import Scenario
from .choices import or_connector, stores_for

_STRIPED_LIKE = {"direct": "striped", "direct_mp": "striped_mp"}
_OF_START = (
    "settings",
    "environment",
    "ignored_settings",
    "preset",
    "patched",
    "port",
    "capacity_bytes",
    "data_dir",
)


def _can_be_there(store: str) -> bool:
    """Whether it is a server, and not one that is part of this workflow."""
    return store_class(store).is_server and not store_class(store).programs


def check_place(scenario: Mapping[str, Any], where: str) -> None:
    """That a store which is there already can be reached by what the scenario has, and nothing is asked that its start would need."""
    place, connector = scenario["place"], scenario["connector"]
    others = [name for name in stores_for(scenario["tier"]) if _can_be_there(name)]
    if not _can_be_there(scenario["store"]):
        raise UserError(
            f"{where}.place: store {scenario['store']} is never there before a job starts it; choose {' or '.join(others)}, or leave it out"
        )
    for key in _OF_START:
        if scenario[key] != Scenario.model_fields[key].default:
            raise UserError(f"{where}.{key}: the store at place.addresses is not started here; leave it out")
    if scenario["socket"] != "tcp":
        raise UserError(f"{where}.socket: place.addresses are reached over tcp; leave it out")
    if connector in DIRECT:
        raise UserError(
            f"{where}.connector: {connector} reads the store's files on this machine; choose {_STRIPED_LIKE[connector]}"
        )
    if place["cluster"]:
        _check_cluster(scenario, where)
    elif len(place["addresses"]) > 1 and connector not in STRIPED:
        raise UserError(
            f"{where}.place.addresses: connector {connector} reaches one server; name one{or_connector(scenario, STRIPED)}"
        )
    if place["user"] is not None and Secret.of(scenario) is None:
        raise UserError(f"{where}.place.user: whose password is missing; set password_file or password_env")
    if (place["metrics_url"] is None) != (place["metrics_device"] is None):
        key, other = (
            ("metrics_device", "metrics_url")
            if place["metrics_device"] is None
            else ("metrics_url", "metrics_device")
        )
        raise UserError(f"{where}.place.{key} is missing; {other} says nothing without it")
    hosts = {address.rpartition(":")[0] for address in place["addresses"]}
    if place["metrics_url"] is not None and len(hosts) > 1:
        raise UserError(
            f"{where}.place.metrics_url: the page is one host's and place.addresses are of {len(hosts)}; leave it out, or name servers "
            "of one host"
        )
    if place["tls"] is not None:
        if scenario["client"] == "native":
            raise UserError(f"{where}.client: native speaks no TLS; choose python, or leave place.tls out")
        try:
            context_of(Tls.of(place["tls"]))
        except UserError as error:
            raise UserError(f"{where}.place.{error}") from None
    if scenario["bound_bytes"] is not None and scenario["store"] == "kvrocks":
        raise UserError(
            f"{where}.bound_bytes: whether the Kvrocks at place.addresses is compiled with patch {BY_KEYS_PATCH} is not known; leave it out"
        )


def check_node(scenario: Mapping[str, Any], where: str) -> None:
    """That a store can be started on the other node, ask for a password there and be reached by what the scenario has."""
    servers = [name for name in stores_for(scenario["tier"]) if store_class(name).takes_password]
    if scenario["store"] not in servers:
        raise UserError(
            f"{where}.place.node: store {scenario['store']} is no server that asks for a password; choose {' or '.join(servers)}"
        )
    if scenario["socket"] != "tcp":
        raise UserError(f"{where}.socket: another node is reached over tcp; leave it out")
    if (connector := scenario["connector"]) in DIRECT:
        raise UserError(
            f"{where}.connector: {connector} reads the store's files on this machine; choose {_STRIPED_LIKE[connector]}"
        )
    if "bind" in {key.lower() for key in scenario["settings"]}:
        raise UserError(f"{where}.settings.bind: place.interface says where the server listens; leave it out")


def _check_cluster(scenario: Mapping[str, Any], where: str) -> None:
    """That what is asked for can be had of a cluster: of LMCache's own clients its server has one that knows of slots."""
    connector = scenario["connector"]
    if connector not in (*STRIPED, "mp"):
        raise UserError(
            f"{where}.connector: {connector} asks one server for every key, and a cluster has each where its slot is; name a server of "
            f"its own without place.cluster{or_connector(scenario, STRIPED)}"
        )
    if scenario["bound_bytes"] is not None:
        raise UserError(
            f"{where}.bound_bytes: a bound cannot be kept in a cluster; leave it out, and set its nodes' maxmemory"
        )
    if scenario["place"]["metrics_url"] is not None:
        raise UserError(
            f"{where}.place.metrics_url: the page is one host's, and a cluster has nodes on any; leave it out"
        )
