"""What is said of a store that was added wrongly."""

import pytest

from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.stores.registry import STORES, store_class


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("valkey.Mine", "store mine: .* has no attribute 'Mine'; mend it or its line in .*names.yaml"),
        ("mine.MineStore", "store mine: No module named .*mine'; mend it or its line in .*names.yaml"),
        (
            "server.ServerStore",
            r"store mine: ServerStore has no name, medium, look, command\(\); stores/base.py",
        ),
        ("valkey.ValkeyStore", "store mine: ValkeyStore says name 'valkey' .*; the name must be mine"),
    ],
)
def test_a_store_that_was_added_wrongly_is_named_with_what_is_missing(monkeypatch, where, said):
    monkeypatch.setitem(STORES, "mine", where)
    with pytest.raises(UserError, match=said):
        store_class("mine")
