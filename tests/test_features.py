"""Every test that FEATURES.md names is there."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LINES = [line for line in (TESTS / "FEATURES.md").read_text().splitlines() if line.startswith("- ")]


@pytest.mark.parametrize("line", LINES)
def test_a_feature_names_tests_that_are_there(line):
    named = re.findall(r"((?:[\w/]+\.py)?)::(\w+)|([\w/]+\.py)(?!::)", line)
    assert named, line
    file = ""
    for path, name, alone in named:
        file = path or alone or file
        text = (TESTS / file).read_text()
        assert not name or re.search(rf"^def {name}\b", text, re.MULTILINE), f"{file}::{name}"
