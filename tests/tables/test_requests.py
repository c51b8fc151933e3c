"""The table of requests."""

from workflow.hyperkv.records.kinds.cell import RequestColumns
from workflow.hyperkv.tables.requests import requests_table


def test_single_requests_alone_make_a_table_without_rows():
    table = requests_table([])
    assert len(table) == 0
    assert [*table] == ["scenario", "load", "repeat", *RequestColumns.model_fields]
