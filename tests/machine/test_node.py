"""Where the stores' files lie on the machine that measures."""

import os
import socket
import tempfile
from pathlib import Path

import pytest

from tests.helpers import refused
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.machine.node import data_dir_of, expanded, node_name, where_files_go


def test_variables_are_those_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("HYPERKV_DISK", str(tmp_path))
    assert expanded("$HYPERKV_DISK/a") == expanded("${HYPERKV_DISK}/a") == tmp_path / "a"
    assert expanded("results/data") == Path("results/data")


def test_tmpdir_is_always_known(monkeypatch):
    monkeypatch.delenv("TMPDIR", raising=False)
    assert expanded("$TMPDIR/hyperkv") == Path(tempfile.gettempdir()) / "hyperkv"


@pytest.mark.parametrize(
    "value", ["/tmp/a\nrequirepass x", "/tmp/\x1b[2J", os.fsdecode(b"/tmp/\xff"), "/a\u2028b"]
)
def test_a_variables_value_is_held_to_what_a_text_may_be(monkeypatch, value):
    monkeypatch.setenv("SCRATCH", value)
    with refused(r"data_dir: \$SCRATCH/x: \$SCRATCH has a line break or another control"):
        expanded("$SCRATCH/x")


def test_a_variable_that_is_not_set_is_named_with_the_node(monkeypatch):
    monkeypatch.delenv("SCRATCH", raising=False)
    with pytest.raises(UserError, match=rf"data_dir: \$SCRATCH/x: \$SCRATCH is not set on {node_name()};"):
        data_dir_of("$SCRATCH/x")


def test_a_disk_that_is_not_mounted_is_not_made_on_another_one(tmp_path):
    assert data_dir_of(str(tmp_path / "new")) == tmp_path / "new"
    with pytest.raises(UserError, match=f"no folder {tmp_path}/mnt on {node_name()}; mount or make it there"):
        data_dir_of(str(tmp_path / "mnt/hyperkv"))
    assert not (tmp_path / "mnt").exists()


def test_a_variable_that_is_no_absolute_path_is_refused(monkeypatch):
    monkeypatch.setenv("SCRATCH", "scratch")
    with pytest.raises(UserError, match=rf"\$SCRATCH/x: it is scratch/x on {node_name()}, below whatever"):
        data_dir_of("$SCRATCH/x")


def test_the_node_has_a_name_without_its_domain(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "node7.cluster.example")
    assert node_name() == "node7"


def test_what_is_said_before_a_run_is_about_the_machine_that_measures(tmp_path):
    assert where_files_go("/mnt/nvme/hyperkv", True) == "/mnt/nvme/hyperkv on the node that measures"
    assert where_files_go("$TMPDIR/hyperkv", True) == "$TMPDIR/hyperkv on the node that measures"
    assert "all nodes share; set data_dir" in where_files_go("results/data", True)
    assert where_files_go(str(tmp_path), False).startswith(f"{tmp_path}: ")
    assert where_files_go("/mnt/no-array/hyperkv", False, on_array=True).startswith("/mnt/no-array/hyperkv: ")
    with pytest.raises(UserError, match="no folder /mnt/no-disk on"):
        where_files_go("/mnt/no-disk/hyperkv", False)


def test_a_folder_that_cannot_be_written_is_told_before_a_run_where_this_machine_measures(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"data_dir: cannot write in .*/file: Not a directory; choose"):
        where_files_go(str(tmp_path / "file"), False)
    assert where_files_go(str(tmp_path / "file"), True).endswith("on the node that measures")
