"""Import closures: what a stage's rule depends on, and nothing else."""

from pathlib import Path

import pytest

from workflow.hyperkv.base import sources as module
from workflow.hyperkv.base.sources import code_digest, sources

TREE = {
    "__init__.py": "",
    "stage.py": "import os\nfrom . import near\nfrom .sub.deep import thing\n",
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
    module._imported.cache_clear()
    yield tmp_path
    module._imported.cache_clear()


def names(paths: list[str]) -> list[str]:
    return [path.removeprefix("workflow/hyperkv/") for path in paths]


def test_closure_of_every_kind_of_import(tree):
    assert names(sources("stage")) == sorted(set(TREE) - {"by_name.py", "sub/unused.py"})
    assert names(sources("plain")) == ["plain.py"]
    assert names(sources("plain", "by_name")) == ["by_name.py", "plain.py"]
    assert names(sources("sub")) == ["__init__.py", "sub/__init__.py", "sub/inside.py"]


def test_unknown_module(tree):
    with pytest.raises(FileNotFoundError, match=r"workflow\.hyperkv\.nothing"):
        sources("nothing")


def test_code_digest_follows_contents_and_names(tree):
    paths = sources("stage")
    first = code_digest(paths)
    assert code_digest(reversed(paths)) == first
    Path(paths[0]).touch()
    assert code_digest(paths) == first
    assert code_digest(paths[1:]) != first
    Path(paths[1]).write_text(Path(paths[1]).read_text() + "\n")
    assert code_digest(paths) != first
