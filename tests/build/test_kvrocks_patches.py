"""Patches name what they need; the order that a message advises is accepted."""

import re
from pathlib import Path

import pytest

from tests.helpers import refused
from workflow.hyperkv.base.digests import sha256_of
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.build import kvrocks_patches
from workflow.hyperkv.build.kvrocks_patches import (
    PATCHES,
    apply_patches,
    check_patches,
    needs_of,
    ordered,
    patches_in,
    planned,
)


@pytest.fixture
def needing(tmp_path, monkeypatch) -> Path:
    """Patches a, b (needs a), c (needs b and a), d."""
    for name, text in {"a": "", "b": "Needs: a\n", "c": "Needs: b, a\n", "d": "It needs: nothing\n"}.items():
        (tmp_path / f"{name}.patch").write_text(f"What it does.\n{text}\ndiff --git a/x b/x\nNeeds: z\n")
    monkeypatch.setattr(kvrocks_patches, "PATCHES", tmp_path)
    return tmp_path


def test_needs_are_read_from_the_text_above_the_first_difference(needing):
    assert {name: needs_of(name) for name in "abcd"} == {"a": [], "b": ["a"], "c": ["b", "a"], "d": []}


@pytest.mark.parametrize("names", ["a", "d", "ab", "abc", "dabc", "adb"])
def test_what_is_there_in_order_is_accepted(names, needing):
    check_patches(list(names))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("b", "b needs a before it"),
        ("ba", "b needs a before it"),
        ("c", "c needs b and a before it"),
        ("acb", "c needs b before it"),
        ("dc", "c needs b and a before it"),
    ],
)
def test_what_is_missing_or_late_is_named_and_the_remedy_is_accepted(names, words, needing):
    with pytest.raises(UserError, match=words) as caught:
        check_patches(list(names))
    message = str(caught.value)
    assert "\n" not in message
    advised = re.search(r"write patches: \[(.*)\]$", message)
    assert advised is not None
    assert set(names) <= set(advised[1].split(", "))
    check_patches(advised[1].split(", "))


def test_a_circle_is_said(needing):
    (needing / "a.patch").write_text("Needs: b\n\ndiff --git a/x b/x\n")
    with pytest.raises(UserError, match="it needs itself"):
        check_patches(["a"])


def test_the_real_ones():
    assert ordered(["values-from-files"]) == ["large-transfers", "fewer-copies", "values-from-files"]
    for names in (["values-from-files"], ["values-from-files", "large-transfers", "fewer-copies"]):
        with pytest.raises(
            UserError, match="values-from-files needs large-transfers and fewer-copies before it"
        ):
            check_patches(names)


def test_the_mark(tmp_path):
    program = tmp_path / "program"
    for content, found in (
        (b"", []),
        (b"\x7fELF stock", []),
        (b'x\0hyperkv-patches: [{"name": "a", "sha256": "0"}]\0y', [{"name": "a", "sha256": "0"}]),
        (b"x\0hyperkv-patches: [broken]\0y", []),
    ):
        program.write_bytes(content)
        assert patches_in(program) == found


@pytest.fixture
def texts(tmp_path, monkeypatch) -> Path:
    """A patch for three generations of a source: of `one`, of `two` and of `ten`."""
    for folder, old in ((".", "one"), ("2.9", "two"), ("2.13", "ten")):
        file = tmp_path / "patches" / folder / "mine.patch"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            f"Why.\n\ndiff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-{old}\n+patched {old}\n"
        )
    monkeypatch.setattr(kvrocks_patches, "PATCHES", tmp_path / "patches")
    return tmp_path / "patches"


def source(folder: Path, text: str, version: str = "") -> Path:
    (folder / "src").mkdir(parents=True)
    (folder / "x").write_text(f"{text}\n")
    if version:
        (folder / "src" / "VERSION.txt").write_text(f"{version}\n")
    return folder


@pytest.mark.parametrize(("text", "folder"), [("one", "."), ("two", "2.9"), ("ten", "2.13")])
def test_the_text_for_this_source_is_applied_and_recorded(text, folder, texts, tmp_path):
    patch = planned("mine")
    assert list(patch["files"]) == ["2.13/mine.patch", "2.9/mine.patch", "mine.patch"]
    tree = source(tmp_path / "tree", text)
    assert apply_patches(tree, [patch]) == [
        {"name": "mine", "sha256": sha256_of(texts / folder / "mine.patch")}
    ]
    assert (tree / "x").read_text() == f"patched {text}\n"


def test_a_source_that_no_text_fits_is_named_with_its_version(texts, tmp_path):
    for version, words in (("2.17.0", r"Kvrocks 2\.17\.0"), ("unstable", "this source of Kvrocks")):
        tree = source(tmp_path / version, "twenty", version)
        with refused(rf"^kvrocks\.patches: mine does not apply to {words} \(error: patch failed: x:1\)"):
            apply_patches(tree, [planned("mine")])


def test_a_later_text_says_and_needs_what_the_first_does():
    later = sorted(PATCHES.glob("*/*.patch"))
    assert later
    for path in later:
        assert re.fullmatch(r"\d+\.\d+", path.parent.name)
        first, text = ((folder / path.name).read_text() for folder in (PATCHES, path.parent))
        assert first.split(". ")[0] == text.split(". ")[0]
        assert re.findall("(?m)^Needs:.*", first) == re.findall("(?m)^Needs:.*", text)
