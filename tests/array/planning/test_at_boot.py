"""/etc/fstab and mdadm.conf after the disks came back empty: our stale lines give way, all others stay as they are."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.array.machines import (
    FOREIGN,
    FS_UUID,
    FSTAB_LINE,
    MD_UUID,
    MDADM_LINE,
    MEMBER,
    MOUNT,
    A,
    assembled,
    commands,
    disks,
    machine,
    md,
    settings,
)
from workflow.hyperkv.array.layout import fstab_line
from workflow.hyperkv.array.planning.at_boot import listed
from workflow.hyperkv.array.planning.facts import Member
from workflow.hyperkv.array.planning.plan import plan_provision
from workflow.hyperkv.array.planning.teardown_plan import plan_teardown
from workflow.hyperkv.array.refusal import IN_USE
from workflow.hyperkv.array.steps.boot_files import array_entries, escaped, fstab_entries, lines_of, unescaped
from workflow.hyperkv.array.steps.commands import Edit, Run

FSTAB, CONF = "/etc/fstab", "/etc/mdadm/mdadm.conf"
GENERATOR = Path("/usr/lib/systemd/system-generators/systemd-fstab-generator")
OLD_FS, OTHER_FS = "0ld00000-0000-4000-8000-000000000001", "f0re1670-0000-4000-8000-000000000002"
OLD_MD = "aaaaaaaa:bbbbbbbb:cccccccc:dddddddd"
AS_BEFORE = "noatime,nofail,x-systemd.device-timeout=30"
PERSIST = settings(persist=True)

STALE = [
    FSTAB_LINE.replace(FS_UUID, OLD_FS),
    f"UUID={OLD_FS} {MOUNT} xfs {AS_BEFORE} 0 0",
    f"UUID={OLD_FS}\t{MOUNT}/\text4\tdiscard,{AS_BEFORE}\t0\t0",
    f'  UUID="{OLD_FS.upper()}"  /mnt//hyperkv xfs {AS_BEFORE} 0 0',
    f"/dev/disk/by-uuid/{OLD_FS} {MOUNT} xfs nofail,x-hyperkv=hyperkv 0 0",
    f"UUID={OLD_FS} /mnt/elsewhere xfs nofail,x-hyperkv=hyperkv 0 2",
    f"UUID={OLD_FS} {MOUNT} xfs nofail,x-hyperkv=fast 0 2",
    f"UUID={FS_UUID} /mnt/elsewhere xfs {AS_BEFORE} 0 0",
    f"UUID={FS_UUID} {MOUNT} ext4 {AS_BEFORE} 0 0",
    f"UUID={FS_UUID} {MOUNT} xfs nofail,x-systemd.device-timeout=30,x-hyperkv=hyperkv 0 0",
    f"UUID={FS_UUID} {MOUNT} xfs noauto,noatime,x-hyperkv=hyperkv 0 0",
]
OTHERS = [
    "# /etc/fstab: static file system information.",
    f"#UUID={OLD_FS} {MOUNT} xfs {AS_BEFORE} 0 0",
    "",
    " \t",
    "UUID=1 / ext4 errors=remount-ro 0 1",
    f"UUID={OTHER_FS} /mnt/hyperkv2 xfs {AS_BEFORE} 0 0",
    f"UUID={OTHER_FS} /mnt/second xfs {AS_BEFORE},x-hyperkv=second 0 0",
    f"{MOUNT}/hyperkv /srv/kv none bind,nofail 0 0",
    f"UUID={OLD_FS} /mnt/hyper\\040kv xfs defaults 0 0",
    "LABEL=hyperkv /mnt/copy xfs noauto 0 0",
    "UUID=2 /boot/efi vfat umask=0077 0 1\r",
    "tmpfs /caf\udce9 tmpfs\x0bsize=1G 0 0",
    "malformed",
]


def files(fstab: str = "", conf: str = "") -> dict[str, str]:
    return {FSTAB: fstab, CONF: conf}


def after(found, wanted=PERSIST) -> dict[str, str]:
    """The files after provisioning on the machine with its array mounted."""
    texts = dict(found.files)
    for step in plan_provision(wanted, found).steps:
        assert isinstance(step, Edit)
        assert step.before == texts[step.path]
        texts[step.path] = step.after
    return texts


@pytest.mark.parametrize("line", STALE)
def test_a_stale_line_gives_its_place_to_the_new_one(line):
    found = assembled(mounted=True, files=files(f"a / ext4\n{line}\nb /home ext4"))
    assert after(found)[FSTAB] == f"a / ext4\n{FSTAB_LINE}\nb /home ext4"


@pytest.mark.parametrize(
    "line",
    [
        FSTAB_LINE,
        f"UUID={FS_UUID} {MOUNT} xfs {AS_BEFORE} 0 0",
        f"UUID={FS_UUID.upper()}\t{MOUNT}\txfs\tnofail,noatime,logbsize=256k,x-hyperkv=hyperkv\t0 0",
        f"UUID={FS_UUID} {MOUNT} auto defaults 0 2",
        f"LABEL=hyperkv {MOUNT} xfs nofail",
        f"/dev/disk/by-label/hyperkv {MOUNT} xfs",
        f"/dev/md/hyperkv {MOUNT} xfs nofail 0 0",
        f"/dev/disk/by-id/md-uuid-d9ed5db4:d2dc3c1a:826f9198:40a08e22 {MOUNT} xfs nofail 0 0",
        f"/dev/disk/by-id/md-name-any:hyperkv {MOUNT} xfs nofail 0 0",
    ],
)
def test_a_line_that_mounts_the_array_stays_and_none_is_added(line):
    assert after(assembled(mounted=True, files=files(line)))[FSTAB] == line
    with_stale = assembled(mounted=True, files=files(f"{STALE[0]}\n{line}\n{STALE[1]}\n"))
    assert after(with_stale)[FSTAB] == f"{line}\n"


def test_of_our_lines_one_stays_and_anothers_goes_first():
    found = assembled(mounted=True, files=files(f"{FSTAB_LINE}\n{FSTAB_LINE}\n"))
    assert after(found)[FSTAB] == f"{FSTAB_LINE}\n"
    theirs = f"LABEL=hyperkv {MOUNT} xfs nofail"
    found = assembled(mounted=True, files=files(f"{FSTAB_LINE}\n{theirs}\n"))
    assert after(found)[FSTAB] == f"{theirs}\n"


@given(
    st.lists(st.sampled_from(OTHERS) | st.text("#ab /=,\\0\t", max_size=12), max_size=8),
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from([*STALE, FSTAB_LINE])), max_size=4),
    st.booleans(),
)
def test_all_other_lines_stay_and_exactly_one_mounts_the_array(others, ours, ended):
    """Whatever the order: others' lines byte by byte, one line for the mount point with the new UUID, and no second edit."""
    lines = [(line, False) for line in others]
    for place, line in ours:
        lines.insert(place, (line, True))
    text = "\n".join(line for line, _ in lines) + ("\n" if ended else "")
    made = after(assembled(mounted=True, files=files(text)))
    [entry] = [entry for entry in fstab_entries(made[FSTAB]) if entry.target == MOUNT]
    assert entry.tag("UUID") == FS_UUID
    left = [line.removesuffix("\n") for line in lines_of(made[FSTAB])]
    del left[entry.lines[0] - 1]
    assert left == [
        line.removesuffix("\n")
        for line in lines_of(text)
        if line.removesuffix("\n") not in {x for x, own in lines if own}
    ]
    again = assembled(mounted=True, files=made)
    assert plan_provision(PERSIST, again).steps == ()
    *_, removal = (step for step in plan_teardown(PERSIST, again).steps if isinstance(step, Edit))
    assert [line.removesuffix("\n") for line in lines_of(removal.after)] == left


@pytest.mark.parametrize("options", ["noauto,x-systemd.automount", "noauto,nofail,comment=systemd.automount"])
def test_anothers_line_that_mounts_on_access_serves(options):
    found = assembled(mounted=True, files=files(f"UUID={FS_UUID} {MOUNT} xfs {options} 0 0\n"))
    _, fstab = listed(PERSIST, found, md(), FS_UUID)
    assert (fstab.in_the_way, fstab.stale, fstab.wanted) == ((), (), None)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (f"UUID={OLD_FS} {MOUNT} xfs defaults 0 2", f"UUID={OLD_FS}"),
        (f"/dev/nvme3n1 {MOUNT}/ ext4 {AS_BEFORE} 0 0", "/dev/nvme3n1"),
        (f"LABEL=hyperkv {MOUNT} xfs noauto", "LABEL=hyperkv"),
        (f"LABEL=hyperkv {MOUNT} ext4 nofail", "LABEL=hyperkv"),
        (f"nas:/kv\\040store {MOUNT} nfs", "nas:/kv store"),
        (f"UUID={OTHER_FS} {MOUNT} xfs {AS_BEFORE} 0 0", f"UUID={OTHER_FS}"),
        (f"UUID={OTHER_FS} {MOUNT} xfs nofail,x-hyperkv=hyperkv 0 0", f"UUID={OTHER_FS}"),
    ],
)
def test_anothers_line_for_the_mount_point_is_refused_before_anything_is_made(line, what):
    text = f"a / ext4\n{line}\n"
    there = {OTHER_FS: "/dev/sdz1"}
    for found in (
        machine(files=files(text), file_systems=there),
        assembled(files=files(text), file_systems=there),
        assembled(mounted=True, files=files(text), file_systems=there),
    ):
        [refusal] = plan_provision(PERSIST, found).refusals
        assert refusal.status == IN_USE
        assert refusal.text == (
            f"/etc/fstab: line 2 mounts {what} at {MOUNT}, and was not written here; remove that line, name another array.mount, or set "
            f"array.persist: false"
        )
        assert plan_provision(settings(), found).refusals == ()
        without = replace(found, files=files("a / ext4\n"))
        assert plan_provision(PERSIST, without).refusals == ()
        elsewhere = settings(persist=True, mount="/mnt/else")
        assert plan_provision(elsewhere, machine(files=files(text))).refusals == ()


def test_blank_disks_and_stale_lines_are_mended_before_the_mount():
    """The file system's UUID is known at the second look; systemd has the new line before the array is mounted."""
    stale = files(f"{STALE[1]}\n", MDADM_LINE.replace(MDADM_LINE[-35:], OLD_MD))
    lines = commands(plan_provision(PERSIST, machine(files=stale, systemd=True)))
    assert lines[-2].startswith("mkfs.xfs")
    plan = plan_provision(PERSIST, assembled(files=stale, systemd=True))
    assert [step.path for step in plan.steps if isinstance(step, Edit)] == [CONF, FSTAB]
    assert plan.steps[2] == Run(("systemctl", "daemon-reload"))
    assert str(plan.steps[4]).startswith("mount ")
    assert [step.after for step in plan.steps[:2]] == [f"{MDADM_LINE}\n", f"{FSTAB_LINE}\n"]
    unmade = assembled(md(signatures=(), content={}), files=stale)
    assert commands(plan_provision(PERSIST, unmade))[-1].startswith("udevadm")
    kept = plan_provision(settings(), assembled(files=stale, systemd=True))
    assert not any(isinstance(step, Edit) for step in kept.steps)


def test_without_persist_stale_lines_are_said():
    found = assembled(files=files(f"{STALE[1]}\nnas:/x {MOUNT} nfs\n"), mounted=True)
    fstab = listed(settings(), found, md(), FS_UUID)[1]
    [away, stale, wanted] = fstab.notes()
    assert away == f"/etc/fstab: line 2 mounts nas:/x at {MOUNT}, so the array is not there after a reboot"
    assert stale.endswith(f"remove it (array.persist: true does):\n  {STALE[1]}")
    assert wanted.endswith(f":\n  {FSTAB_LINE}")


COLONS = MDADM_LINE[-35:]
STALE_ARRAYS = [
    f"ARRAY /dev/md/hyperkv metadata=1.2 name=any:hyperkv UUID={OLD_MD}",
    f"ARRAY /dev/md/hyperkv metadata=1.2 name=ip-10-0-0-7:hyperkv UUID={OLD_MD}",
    f"array  hyperkv\tUUID={OLD_MD.upper()}",
    f"ARRAY /dev/md/hyperkv level=raid0 num-devices=2\n   UUID={OLD_MD}\n\tname=any:hyperkv",
    f"ARR /dev/md127 name=any:hyperkv UUID={OLD_MD}",
    f"ARRAY /dev/md/hyperkv UUID={OLD_MD} # ours",
]
OTHER_ARRAYS = [
    "# mdadm.conf",
    f"# ARRAY /dev/md/hyperkv UUID={OLD_MD}",
    "HOMEHOST <system>",
    "MAILADDR root",
    "DEVICE partitions",
    "",
    "ARRAY /dev/md/data metadata=1.2 name=any:data UUID=11111111:22222222:33333333:44444444",
    "ARRAY /dev/md0 UUID=11111111:22222222:33333333:44444444\n   name=any:data",
    f"ARRAY /dev/md/hyperkv_old name=box:hyperkv UUID={OLD_MD}",
    "PROGRAM '/usr/bin/say \udce9'",
]


@given(
    st.lists(st.sampled_from(OTHER_ARRAYS), max_size=6),
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from([*STALE_ARRAYS, MDADM_LINE])), max_size=4),
    st.booleans(),
)
def test_mdadm_conf_names_the_array_once_and_keeps_the_rest(others, ours, ended):
    blocks = [(line, False) for line in others]
    for place, line in ours:
        blocks.insert(place, (line, True))
    text = "\n".join(line for line, _ in blocks) + ("\n" if ended else "")
    made = after(assembled(mounted=True, files=files(FSTAB_LINE, text)))
    named = [entry for entry in array_entries(made[CONF]) if entry.device in ("/dev/md/hyperkv", "hyperkv")]
    assert [entry.value("uuid") for entry in named] == [COLONS]
    left = lines_of(made[CONF])
    del left[named[0].lines[0] - 1]
    assert "".join(left).rstrip("\n") == "\n".join(line for line, own in blocks if not own).rstrip("\n")
    assert plan_provision(PERSIST, assembled(mounted=True, files=files(FSTAB_LINE, made[CONF]))).steps == ()


@pytest.mark.parametrize(
    "line",
    [
        MDADM_LINE,
        f"ARRAY /dev/md0 UUID={COLONS}",
        f"ARRAY /dev/md/hyperkv\n  uuid={COLONS.upper()}",
        "ARRAY /dev/md/hyperkv name=any:hyperkv",
        "array hyperkv name=hyperkv metadata=1.2",
    ],
)
def test_an_entry_by_which_mdadm_finds_the_array_stays(line):
    assert after(assembled(mounted=True, files=files(FSTAB_LINE, line)))[CONF] == line
    assert after(assembled(mounted=True, files=files(FSTAB_LINE, f"{STALE_ARRAYS[3]}\n{line}")))[CONF] == line


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("ARRAY /dev/md/hyperkv devices=/dev/sda,/dev/sdb", "/dev/sda,/dev/sdb /dev/md/hyperkv"),
        (f"ARRAY hyperkv level=raid5 UUID={OLD_MD}", f"{OLD_MD} hyperkv"),
        ("ARRAY /dev/md/hyperkv UUID=9:9:9:9", "9:9:9:9 /dev/md/hyperkv"),
    ],
)
def test_another_array_of_that_name_is_refused(line, what):
    there = md(path="/dev/md9", uuid="9999----", members=("sda", "sdb"))
    found = assembled(mounted=True, files=files("", line))
    found = replace(found, arrays=(*found.arrays, there))
    refusals = plan_provision(PERSIST, found).refusals
    assert [refusal.text for refusal in refusals] == [
        f"{CONF}: line 1 calls the array {what}, and was not written here; remove that line, name another array.name, or set array.persist: false"
    ]
    assert plan_provision(settings(), found).refusals == ()
    assert plan_provision(PERSIST, replace(found, files=files())).refusals == ()
    assert plan_provision(settings(persist=True, name="other"), machine(files=files("", line))).refusals == ()


def test_an_array_that_is_to_be_ignored_is_refused():
    found = assembled(mounted=True, files=files("", f"ARRAY <ignore> UUID={COLONS}"))
    [refusal] = plan_provision(PERSIST, found).refusals
    assert f"line 1 calls the array {COLONS} <ignore>" in refusal.text


def test_the_line_has_the_host_that_the_array_was_made_on():
    """mdadm takes an array for a line only when all that the line gives agrees, the name with its host too."""
    member = MEMBER | {"member": Member("hyperkv", MD_UUID, "raid0", 2, "box"), "busy": True}
    found = replace(assembled(mounted=True), disks=disks(nvme0n1=member, nvme1n1=member))
    right = MDADM_LINE.replace("any:", "box:")
    assert after(replace(found, files=files(FSTAB_LINE, f"{MDADM_LINE}\n")))[CONF] == f"{right}\n"
    assert after(replace(found, files=files(FSTAB_LINE, right)))[CONF] == right


@pytest.mark.parametrize(
    "host",
    ["x devices=/dev/sda", "x\tauto=yes", "x' 'y", 'a"', "a#b", "é", "a\rPROGRAM /x", "a,b", "<ignore>"],
)
def test_a_host_that_is_no_word_is_left_out_of_the_line(host):
    member = MEMBER | {"member": Member("hyperkv", MD_UUID, "raid0", 2, host), "busy": True}
    found = replace(assembled(mounted=True), disks=disks(nvme0n1=member, nvme1n1=member))
    line = MDADM_LINE.replace("name=any:hyperkv ", "")
    assert after(replace(found, files=files(FSTAB_LINE, "")))[CONF] == f"{line}\n"
    assert after(replace(found, files=files(FSTAB_LINE, f"{line}\n")))[CONF] == f"{line}\n"


def test_teardown_takes_lines_of_an_array_that_is_gone():
    stale = files(
        f"x / ext4\n{STALE[0]}\n{STALE[6]}\n{STALE[1]}\nLABEL=hyperkv {MOUNT} xfs\n", f"{STALE_ARRAYS[1]}\n"
    )
    plan = plan_teardown(PERSIST, machine(files=stale, systemd=True))
    assert [step.after for step in plan.steps if isinstance(step, Edit)] == [
        "",
        f"x / ext4\n{STALE[6]}\nLABEL=hyperkv {MOUNT} xfs\n",
    ]
    assert plan.steps[-1] == Run(("systemctl", "daemon-reload"))
    assert plan.lost == ()
    assert plan_teardown(settings(), machine(files=stale)).steps == ()


def test_lines_of_half_an_array_are_ours():
    """One of two disks was replaced: what is left of the array is on a named disk, so its lines are not another's."""
    lines = files(f"{STALE[0]}\n", f"{MDADM_LINE}\n")
    half = machine(disks(nvme0n1=MEMBER), files=lines)
    [refusal] = plan_provision(PERSIST, half).refusals
    assert refusal.text.startswith(f"{A}: a member of array hyperkv")
    assert plan_provision(settings(persist=True, overwrite=True), half).refusals == ()
    for found in (half, machine(disks(nvme0n1=MEMBER, nvme1n1=MEMBER), files=lines)):
        edits = [step for step in plan_teardown(PERSIST, found).steps if isinstance(step, Edit)]
        assert [edit.after for edit in edits] == ["", ""]
    other = machine(disks(nvme2n1=MEMBER), files=lines)
    assert "line 1 calls the array" in plan_provision(PERSIST, other).refusals[0].text


def test_what_fstab_mounts_from_a_disk_is_said_of_it():
    uuid = FOREIGN["ext4"]["signatures"][0].uuid
    found = machine(
        disks(nvme0n1=FOREIGN["ext4"]), files=files(f"UUID={uuid} /data ext4 noauto\n{A} /raw ext4\n")
    )
    [refusal] = plan_provision(settings(), found).refusals
    assert refusal.text.startswith(
        f'{A}: holds ext4 "old", which /etc/fstab mounts at /data, /raw; name another'
    )
    assert (
        plan_provision(settings(overwrite=True), found)
        .lost[0]
        .endswith("which /etc/fstab mounts at /data, /raw")
    )


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_fields_are_escaped_and_back(field):
    assert unescaped(escaped(field)) == field
    assert not set(escaped(field)) & set(" \t\n")
    [entry] = fstab_entries(fstab_line(settings(mount=f"/{field}/x"), FS_UUID))
    assert entry.tag("UUID") == FS_UUID
    assert len(entry.lines) == 1


@pytest.mark.skipif(not GENERATOR.exists() or not shutil.which("findmnt"), reason="no systemd, or no findmnt")
@examples(max_examples=15)
@given(st.lists(st.sampled_from([*STALE[:5], *OTHERS[:-2], FSTAB_LINE]), max_size=8))
def test_systemd_and_mount_read_the_new_line(tmp_path_factory, lines):
    """Debian's generator of mount units keeps the first of two lines for a mount point, so there is to be one."""
    folder = tmp_path_factory.mktemp("generated")
    fstab = folder / "fstab"
    fstab.write_text(after(assembled(mounted=True, files=files("\n".join(lines))))[FSTAB])
    made = folder / "units"
    made.mkdir()
    subprocess.run(
        [GENERATOR, made, made, made],
        env={**os.environ, "SYSTEMD_FSTAB": str(fstab), "SYSTEMD_LOG_TARGET": "console"},
        capture_output=True,
        timeout=30,
    )
    unit = (made / "mnt-hyperkv.mount").read_text()
    assert f"What=/dev/disk/by-uuid/{FS_UUID}\n" in unit
    listed_there = json.loads(
        subprocess.run(
            ["findmnt", "--fstab", "--tab-file", str(fstab), "-J", "-o", "SOURCE,TARGET"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
    )["filesystems"]
    assert [item["source"] for item in listed_there if item["target"] == MOUNT] == [f"UUID={FS_UUID}"]
