"""What vLLM and LMCache cannot do with a store that is there already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....plugin.lmcache_striped.secret import Secret
from ...base.errors import UserError


def require_placed(scenario: Mapping[str, Any], where: str) -> None:
    """Refuse what LMCache's own clients cannot do there. where: begins the message, UserError."""
    connector, place = scenario["connector"], scenario["place"]
    if connector in ("redis", "resp") and not place["consent"]:
        raise UserError(
            f"{where}: connector: with {connector} LMCache gives keys no prefix of the run, so that they cannot be told from others' and "
            "deleted; choose striped, or set place.consent: true, with which the servers are emptied"
        )
    if connector == "mp" and place["cluster"] and Secret.of(scenario) is not None:
        raise UserError(
            f"{where}: password_file: LMCache's own client of a cluster takes a password on a command line that others can read, and logs "
            "it; choose striped_mp"
        )
    if connector in ("redis", "resp", "mp") and place["tls"] is not None:
        other = "striped_mp" if connector == "mp" else "striped"
        raise UserError(
            f"{where}: place.tls: LMCache's own client of connector {connector} speaks no TLS; choose {other}"
        )
