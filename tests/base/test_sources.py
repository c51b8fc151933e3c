"""Import closures: what a stage's rule depends on, and nothing else."""

from pathlib import Path

import pytest

from workflow.hyperkv.base import sources as module
from workflow.hyperkv.base.sources import code_digest, edited, keep, recall, sources

TREE = {
    "__init__.py": "",
    "stage.py": "import os\nfrom . import near\nfrom .sub.deep import thing\n",
    "stage.j2": "{{ thing }} of it\n",
    "near.py": "def later():\n    from workflow.hyperkv import absolute\n",
    "absolute.py": "import workflow.hyperkv.plain\nimport workflow.elsewhere\n",
    "plain.py": "from importlib import import_module\nimport_module('workflow.hyperkv.by_name')\n",
    "by_name.py": "",
    "sub/__init__.py": "from .inside import x\n",
    "sub/inside.py": "x = 1\n",
    "sub/deep.py": "from ..upstairs import y\nthing = 1\n",
    "sub/unused.py": "",
    "upstairs.py": "from . import stage\ny = 1\n",
}


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """A small package of the same name in a folder of its own."""
    for name, text in TREE.items():
        path = tmp_path / "workflow/hyperkv" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    edited()
    yield tmp_path
    edited()


def names(paths: list[str]) -> list[str]:
    return [path.removeprefix("workflow/hyperkv/") for path in paths]


def test_closure_of_every_kind_of_import(tree):
    assert names(sources("stage")) == sorted(set(TREE) - {"by_name.py", "sub/unused.py"})
    assert names(sources("plain")) == ["__init__.py", "plain.py"]
    assert names(sources("plain", "by_name")) == ["__init__.py", "by_name.py", "plain.py"]
    assert names(sources("sub")) == ["__init__.py", "sub/__init__.py", "sub/inside.py"]


def test_unknown_module(tree):
    with pytest.raises(FileNotFoundError, match=r"workflow\.hyperkv\.nothing"):
        sources("nothing")


def test_the_plugin_is_ours_too_with_its_compiled_part(tree):
    plugin = tree / "workflow/plugin/lmcache_striped"
    plugin.mkdir(parents=True)
    for name, text in {"__init__.py": "", "native.py": "from .near import x\n", "near.py": "x = 1\n"}.items():
        (plugin / name).write_text(text)
    (plugin / "native.c").write_text('#include <x.h>\n#include "part.c"\nint x;\n')
    (plugin / "part.c").write_text("int y;\n")
    (tree / "workflow/hyperkv/near.py").write_text("from ..plugin.lmcache_striped.native import x\n")
    found = sources("near")
    files = [
        f"workflow/plugin/lmcache_striped/{name}"
        for name in ("__init__.py", "native.c", "native.py", "near.py", "part.c")
    ]
    assert found == ["workflow/hyperkv/__init__.py", "workflow/hyperkv/near.py", *files]
    assert sources("workflow.plugin.lmcache_striped.native") == files
    before = code_digest(found)
    (plugin / "part.c").write_text("long y;\n")
    edited()
    assert code_digest(found) != before


STAGE = """from __future__ import annotations

def twice(value: int) -> int:
    return 2 * value

class Kept:
    size: int

    def all(self) -> list:
        return [1, "two"]
"""
REWORDED = '''"""A stage."""
# why it is here
from __future__ import annotations


def twice(
    value: int,
) -> int:
    """Twice the value."""
    return 2 * value  # as said


class Kept:
    """What is kept."""

    size: int
    """How much."""

    def all(self) -> list:
        """All."""
        return [1, \'two\']
'''


@pytest.fixture
def digest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def of(text: str, name: str = "stage.py") -> str:
        edited()
        Path(name).write_text(text)
        return code_digest([name])

    yield of
    edited()


def test_wording_and_layout_are_no_code(digest):
    assert digest(STAGE) == digest(REWORDED)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2 * value", "3 * value"),
        ('"two"', '"three"'),
        ("twice", "double"),
        ("1, ", "1.0, "),
        ("def all", "async def all"),
    ],
)
def test_a_changed_statement_is_other_code(digest, old, new):
    assert digest(STAGE) != digest(STAGE.replace(old, new))


def test_every_python_reads_the_same_code(digest):
    assert digest(STAGE) == "2dd55f72ce51"


def test_a_function_of_a_docstring_alone_is_one_that_passes(digest):
    assert digest('def f():\n    """Nothing."""\n') == digest("def f():\n    pass\n")


def test_the_data_beside_a_module_is_its_code(tree):
    data = tree / "workflow/hyperkv/plain.yaml"
    before = code_digest(sources("stage"))
    data.write_text("words: [one, two]  # of two\n")
    edited()
    assert names(sources("plain")) == ["__init__.py", "plain.py", "plain.yaml"]
    with_data = code_digest(sources("stage"))
    edited()  # what is known of the files is forgotten
    data.write_text("words:\n  - one\n  - two\n")
    assert code_digest(sources("stage")) == with_data != before
    data.write_text("words: [two, one]\n")
    assert names(edited()) == ["plain.yaml"]
    assert code_digest(sources("stage")) != with_data


def test_the_digest_is_of_files_by_name_in_any_order(tree):
    paths = sources("stage")
    assert code_digest(reversed(paths)) == code_digest(paths)
    assert code_digest(paths[1:]) != code_digest(paths)


def test_another_name_is_other_code(digest):
    assert digest(STAGE) != digest(STAGE, "other.py")


def test_what_says_something_else_than_when_it_was_read_is_named_once(tree):
    paths = {
        name: tree / "workflow/hyperkv" / name
        for name in ("near.py", "plain.py", "absolute.py", "upstairs.py", "stage.j2")
    }
    before = code_digest(sources("stage"))
    assert edited() == []
    assert code_digest(sources("stage")) == before
    paths["near.py"].write_text(TREE["near.py"] + "# a word\n")
    paths["plain.py"].write_text(TREE["plain.py"] + "EDITED = True\n")
    paths["absolute.py"].write_text("half a (")
    paths["upstairs.py"].unlink()
    paths["stage.j2"].write_text("{{ thing }} of that\n")
    assert names(edited()) == ["absolute.py", "plain.py", "stage.j2", "upstairs.py"]
    assert edited() == []


@pytest.fixture
def next_process(monkeypatch):
    """Begins as a process does that has parsed nothing yet."""

    def begin() -> None:
        edited()
        monkeypatch.setattr(module, "_parsed", {})
        monkeypatch.setattr(module, "_recalled", set())

    begin()
    return begin


def test_what_was_parsed_is_not_parsed_by_the_next_process_but_what_has_changed_is(
    tree, next_process, monkeypatch
):
    kept = tree / "own" / "parsed.json"
    found = sources("stage")
    before = code_digest(found)
    keep(kept)
    next_process()
    recall(kept)
    with monkeypatch.context() as patch:
        patch.setattr(module.ast, "parse", lambda _: pytest.fail("parsed again"))
        assert (sources("stage"), code_digest(found)) == (found, before)
        written = kept.stat().st_mtime_ns
        keep(kept)
        assert kept.stat().st_mtime_ns == written
    (tree / "workflow/hyperkv/upstairs.py").write_text("from .sub import unused\ny = 2\n")
    next_process()
    recall(kept)
    assert set(names(sources("stage"))) - set(names(found)) == {"sub/unused.py"}
    assert code_digest(found) != before


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[1, 2]",
        lambda text: '{"a": 1}',
        lambda text: '{"a": [1]}',
        lambda text: "[" * 100_000,
    ],
)
def test_what_is_damaged_of_it_is_parsed_again(tree, next_process, damage):
    kept = tree / "parsed.json"
    before = code_digest(sources("stage"))
    keep(kept)
    kept.write_text(damage(kept.read_text()))
    next_process()
    recall(kept)
    assert code_digest(sources("stage")) == before
    keep(kept)
    next_process()
    recall(kept)
    assert module._parsed


def test_where_nothing_can_be_kept_nothing_is(tree, next_process):
    (tree / "file").write_text("")
    sources("stage")
    keep(tree / "file" / "parsed.json")
    recall(tree / "file" / "parsed.json")
    assert not list(tree.glob("file*/*"))
