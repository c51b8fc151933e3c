"""The comparison of striped with the other connectors: which lines its table has."""

import argparse
import json

from tests.kvrocks_tree import write_kvrocks
from workflow.hyperkv.bench.bench_striped import Server, clients_of, compare
from workflow.hyperkv.stores.base import StoreConfig
from workflow.hyperkv.stores.valkey import ValkeyStore


def arguments(**changes) -> argparse.Namespace:
    common = {"store": "valkey", "program": [None], "processes": [1], "in_flight": [0], "unix": False}
    common |= {"client": ["python"]}
    sizes = {"chunk_bytes": 1 << 16, "stripe_bytes": [1 << 14], "point_bytes": 1 << 18, "rounds": 2}
    return argparse.Namespace(**common | sizes | changes)


def test_every_program_number_of_processes_and_kind_of_socket_is_a_line(tmp_path):
    stock, patched = (write_kvrocks(tmp_path / name / "kvrocks") for name in ("stock", "patched"))
    patched.with_suffix(".json").write_text(json.dumps({"patches": [{"name": "fewer-copies"}]}))
    found = clients_of(
        arguments(
            program=[stock, patched],
            processes=[1, 3],
            in_flight=[0, 2],
            client=["python", "native"],
            unix=True,
            stripe_bytes=[1 << 20],
        ),
        4,
    )
    labels = [client.label for client in found]
    assert labels[:5] == ["redis", "resp", "resp unix", "resp patched", "resp unix patched"]
    assert len(labels) == len(set(labels)) == 5 + 2 * 2 * 2 * 2 * 2
    assert "striped 1024 KiB 2 in flight 3 processes unix patched" in labels
    assert "striped 1024 KiB native patched" in labels
    assert {client.server for client in found} == {
        Server(program, processes, unix)
        for program in (stock, patched) for processes in (1, 3) for unix in (False, True)
    }  # fmt: skip


def test_every_line_is_measured_against_its_server(tmp_path):
    clients = clients_of(arguments(), 2)
    with ValkeyStore(StoreConfig(tmp_path / "valkey", 1 << 16, tmp_path / "log")) as store:
        text = compare(arguments(), clients, {Server(): store}, 2)
    rows = {line.split("  ")[0]: line.split()[-4:] for line in text.splitlines()[3:]}
    assert set(rows) == {"redis", "resp", "striped 16 KiB"}
    assert all(float(value) > 0 for row in rows.values() for value in row)
    assert rows["redis"][2] == rows["resp"][3] == "1.00"
