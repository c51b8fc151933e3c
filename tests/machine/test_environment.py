"""What a machine says of itself is text, whatever bytes its drives and its kernel have there."""

import json
import socket

from workflow.hyperkv.machine import environment as module
from workflow.hyperkv.machine.environment import environment, has_gpu
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


def test_a_gpu_is_here_when_nvidia_smi_shows_one_or_a_driver_has_a_device(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "DEV", tmp_path)
    assert not has_gpu()
    for told, found in (("exit 9", False), ("echo NVIDIA L4", True)):
        program.write_text(f"#!/bin/sh\n{told}\n")
        program.chmod(0o755)
        assert has_gpu() is found, told
    program.unlink()
    for name, found in (("nvidiactl", False), ("nvidia0", True)):
        (tmp_path / name).touch()
        assert has_gpu() is found, name
