"""What a scenario says to its store's server, checked before anything runs: its own keys and its password."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base.errors import UserError
from ..base.secret import KEYS, Secret
from ..stores.registry import store_class


def check_store_keys(scenario: Mapping[str, Any], where: str) -> None:
    """Refuse settings that the store does not take and a password that is not there. Raises UserError beginning with `where`."""
    store = store_class(scenario["store"])
    store.check_settings(scenario["settings"], f"{where}.settings")
    try:
        secret = Secret.of(scenario)
        if secret is None:
            return
        if not store.takes_password:
            key = next(key for key in KEYS if scenario[key] is not None)
            raise UserError(f"{key}: store {scenario['store']} asks for no password; leave it out")
        secret.value()
    except UserError as error:
        raise UserError(f"{where}.{error}") from None
