"""What a program needs is read from its ELF headers, and held against the machine in one line."""

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.hyperkv.machine.machine_code import (
    Needs,
    glibc_version,
    instructions_of,
    lacking,
    needs_of,
    unmet,
)

GLIBC = Needs("x86_64", None, {"GLIBC": "2.38"})
pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="ELF")


def test_this_interpreter_runs_here():
    needs = needs_of(Path(sys.executable))
    assert needs is not None
    assert needs.machine == platform.machine()
    assert unmet(needs) is None


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf (binutils) is not here")
@pytest.mark.parametrize("program", ["bash", "python3", "ls"])
def test_the_same_as_readelf(program):
    path = Path(shutil.which(program) or "").resolve()
    needs = needs_of(path)
    if needs is None:
        pytest.skip("no ELF file")
    listing = subprocess.run(
        ["readelf", "-dVW", str(path)], capture_output=True, text=True, check=True, timeout=20
    ).stdout
    asked = re.findall(r"Name: GLIBC_([0-9.]+)", listing)
    newest = max(asked, key=lambda text: [int(part) for part in text.split(".")])
    assert needs.versions["GLIBC"] == newest


@pytest.mark.parametrize(
    ("needs", "machine", "glibc", "words"),
    [
        (GLIBC, "x86_64", "2.36", r"needs glibc 2\.38, this machine has 2\.36: build it here"),
        (GLIBC, "x86_64", "2.38", None),
        (GLIBC, "x86_64", "2.100", None),
        (GLIBC, "aarch64", "2.38", r"is built for x86_64, this machine is aarch64"),
        (Needs("aarch64", None, {}), "x86_64", "2.38", r"is built for aarch64"),
        (Needs("i686", None, {}), "x86_64", "2.38", None),
        (
            Needs("x86_64", "/lib/ld-musl-x86_64.so.1", {}),
            "x86_64",
            "2.38",
            r"needs the loader /lib/ld-musl",
        ),
        (Needs("x86_64", None, {}), "x86_64", "2.38", None),
        (None, "x86_64", "2.38", None),
    ],
)
def test_what_is_not_met(needs, machine, glibc, words):
    found = unmet(needs, machine, glibc)
    assert (found is None) == (words is None)
    assert re.search(words or "", found or "")
    assert "\n" not in (found or "")


def test_this_machines_glibc():
    version = glibc_version()
    assert version is None or re.fullmatch(r"\d+\.\d+", version)


@given(data=st.data())
def test_a_damaged_file_is_no_traceback(data, tmp_path_factory):
    content = bytearray(Path(sys.executable).resolve().read_bytes()[:4096])
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.mktemp("elf") / "program"
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    needs_of(file)


def test_instructions():
    listing = "  -march=    \t\tznver3\n  -mavx2      \t\t[enabled]\n  -mavx512f  [disabled]\n  -mpclmul [enabled]\n"
    assert instructions_of(listing) == ["avx2", "pclmulqdq"]
    assert instructions_of("") == []
    assert lacking(["avx2", "avx512f"], "processor : 0\nflags\t\t: sse avx2 \n") == ["avx512f"]
    assert lacking(["avx2"], "Features : asimd\n") == []
