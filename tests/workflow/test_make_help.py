"""`make` alone lists the commands, in groups, and makes nothing."""

import re
import subprocess
from pathlib import Path

import pytest


@pytest.mark.parametrize("words", [[], ["help"]], ids=["make", "make help"])
def test_every_command_is_listed_once_in_a_group(words, tmp_path):
    makefile = Path("Makefile").resolve()
    (tmp_path / "Makefile").write_text(makefile.read_text())
    shown = subprocess.run(["make", *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    listed = re.findall(r"^  make ([\w-]+) +\w", shown, re.MULTILINE)
    commands = re.search(r"^\.PHONY: (.*)$", makefile.read_text(), re.MULTILINE)[1].split()
    assert sorted(listed) == sorted(set(commands) - {"help"})
    assert re.findall(r"^\w.*\n(?=  make )", shown, re.MULTILINE) == [
        "Measure\n",
        "Build\n",
        "Keep and clean\n",
        "Test and develop\n",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["Makefile"]
