"""What a machine says of itself is text, whatever bytes its drives and its kernel have there."""

import json
import socket

from workflow.hyperkv.machine import environment as module
from workflow.hyperkv.machine.environment import environment
from workflow.hyperkv.machine.node import node_name


def test_bytes_that_are_no_text_are_escaped(tmp_path, monkeypatch):
    node = tmp_path / "nvme9n1"
    for name, content in {"device/model": b"SSD\xff\x1b[2J \n", "queue/scheduler": b"[no\xe9ne]\n"}.items():
        (node / name).parent.mkdir(parents=True, exist_ok=True)
        (node / name).write_bytes(content)
    monkeypatch.setattr(module, "block_device_of", lambda folder: node)
    disk = environment(tmp_path)["disk"]
    assert (disk["model"], disk["scheduler"]) == ("SSD\\udcff\\x1b[2J", "[no\\udce9ne]")
    assert disk["rotational"] is None
    assert json.dumps(disk, ensure_ascii=False).encode()


def test_a_machines_name_is_text(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "a\udcffb\nc.example")
    assert node_name() == "a\\udcffb\\nc"
