"""A system's file is replaced whole: what it is stays, links are followed to where they lead and no further."""

import os
from pathlib import Path

import pytest

from workflow.hyperkv.array.refusal import FAILED, ArrayError
from workflow.hyperkv.array.steps.commands import BACKUP, Edit, execute
from workflow.hyperkv.array.steps.rewrite import replace_text


@pytest.fixture
def fstab(tmp_path) -> Path:
    path = tmp_path / "etc/fstab"
    path.parent.mkdir()
    path.write_text("old\n")
    return path


def test_mode_owner_and_labels_stay_and_the_time_does_not(fstab):
    fstab.chmod(0o640)
    os.utime(fstab, (1, 1))
    if os.geteuid() == 0:
        os.chown(fstab, 1234, 4321)
    os.setxattr(fstab, "user.label", b"etc")
    before = fstab.stat()
    replace_text(fstab, "old\n", "new\n", BACKUP)
    for path, text in ((fstab, "new\n"), (fstab.with_name(f"fstab{BACKUP}"), "old\n")):
        found = path.stat()
        assert path.read_text() == text
        assert (found.st_mode, found.st_uid, found.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
        assert os.getxattr(path, "user.label") == b"etc"
        assert found.st_mtime > 1
    assert len(os.listdir(fstab.parent)) == 2


def test_bytes_that_are_no_text_stay(fstab):
    fstab.write_bytes(b"caf\xe9\r\nx\x00")
    replace_text(fstab, "caf\udce9\r\nx\0", "caf\udce9\r\nx\0y\n")
    assert fstab.read_bytes() == b"caf\xe9\r\nx\x00y\n"


def test_a_link_stays_a_link(fstab):
    real = fstab.parent / "real"
    fstab.rename(real)
    fstab.symlink_to("real")
    parents = [
        path for path in fstab.parents if path.stat().st_mode & 0o022 and not path.stat().st_mode & 0o1000
    ]
    assert parents == []
    replace_text(fstab, "old\n", "new\n", BACKUP)
    assert fstab.is_symlink()
    assert real.read_text() == "new\n"
    assert (fstab.parent / f"real{BACKUP}").read_text() == "old\n"


def dangling(fstab: Path) -> None:
    fstab.unlink()
    fstab.symlink_to("nothing")


def a_folder(fstab: Path) -> None:
    fstab.unlink()
    fstab.mkdir()


def to_what_others_may_change(fstab: Path) -> None:
    folder = fstab.parent / "open"
    folder.mkdir()
    folder.chmod(0o777)
    fstab.rename(folder / "fstab")
    fstab.symlink_to("open/fstab")


def changed(fstab: Path) -> None:
    fstab.write_text("old\nand new\n")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (dangling, "it is a link to .*, which is not there"),
        (a_folder, "it is no regular file"),
        (to_what_others_may_change, "it is a link to .*, and others may change .*"),
        (changed, "it is not as it was looked at"),
    ],
)
def test_what_is_no_such_file_is_left_with_one_line(fstab, spoil, why):
    spoil(fstab)
    seen = sorted(path for path in fstab.parent.rglob("*"))
    with pytest.raises(ArrayError, match=rf"^.*/etc/fstab: cannot be changed \({why}\); .*$") as caught:
        execute([Edit(str(fstab), "old\n", (1,), "new")], lambda line: None)
    assert caught.value.exit_status == FAILED
    assert "\n" not in str(caught.value)
    assert sorted(path for path in fstab.parent.rglob("*")) == seen


def test_a_link_planted_at_the_backup_is_not_followed(fstab):
    victim = fstab.parent.parent / "victim"
    victim.write_text("keep")
    backup = fstab.with_name(f"fstab{BACKUP}")
    backup.symlink_to(victim)
    replace_text(fstab, "old\n", "new\n", BACKUP)
    assert victim.read_text() == "keep"
    assert not backup.is_symlink()
