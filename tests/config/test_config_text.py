"""Files of a configuration that cannot be read: one line each, with file and line, before Snakemake's own text."""

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.workflow_helpers import TINY, Checkout
from workflow.hyperkv.base.config_files import read_mapping
from workflow.hyperkv.base.documents import Unreadable, from_yaml
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config_text import require_readable
from workflow.hyperkv.models.geometry import load_geometry

TWICE = "kv_dtype: fp8\nengine: replay\nkv_dtype: auto\n"
REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", ": line 1: there is nothing in it; write keys"),
        (b"# only a comment\n", ": line 1: there is nothing in it; write keys"),
        (b"null\n", ": line 1: there is nothing in it"),
        (b"---\n", ": line 1: there is nothing in it"),
        (b"- a\n- b\n", ": line 1: it has a list at the top"),
        (b"just words\n", ": line 1: it has 'just words' at the top"),
        (b"3\n", ": line 1: it has 3 at the top"),
        (b"experiment:\n  seed: 1\n\tloads: [1]\n", ": line 3: a tab indents it; write blanks instead"),
        (b"\texperiment: 1\n", ": line 1: a tab indents it"),
        (TWICE.encode(), ": line 3: the key kv_dtype stands twice, first in line 1; leave one out"),
        (b"a:\n  b: 1\n  b: 2\n", ": line 3: the key b stands twice, first in line 2"),
        (b"a: [{b: 1, b: 2}]\n", ": line 1: the key b stands twice, first in line 1"),
        (b"'a': 1\na: 2\n", ": line 2: the key a stands twice, first in line 1"),
        (b'{"a": 1,\n\t"a": 2}', ": line 2: the key a stands twice, first in line 1"),
        (b"a: [1\nb: 2\n", ": line 2: "),
        (b"a: b: c\n", ": line 1: mapping values are not allowed here"),
        (b"a: 1\n---\nb: 2\n", ": line 2: but found another document"),
        (b"a: !!python/object:os.system {}\n", ": line 1: could not determine a constructor"),
        (b"a: *b\n", ": line 1: found undefined alias"),
        (b"a: 1\nb: \xff\n", " is not text \\(line 2: bytes that are not UTF-8\\); name a file"),
        (b"\x89PNG\r\n", " is not text \\(line 1: "),
        (b"a: 1\nb: \0\n", ": line 2: it has the character U\\+0000, which is not text"),
        (b"a: 2026-99-99\n", ": month must be in 1..12"),
        (b"[" * 5000, ": nested more than 50 deep"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_configuration_is_one_line(tmp_path, content, said):
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        require_readable([path])
    assert re.match(f"config: {re.escape(str(path))}{said}", str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_had(tmp_path, monkeypatch):
    for path, said in ((tmp_path / "none.yaml", "there is no file"), (tmp_path, "is a folder")):
        with pytest.raises(UserError, match=f"^config: .*{said}"):
            require_readable([path])

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").touch()
    with pytest.raises(
        UserError, match=r"^config: my\.yaml cannot be read \(Permission denied\); make it readable"
    ):
        require_readable(["my.yaml"])


@pytest.mark.parametrize(
    "text",
    [
        "a: &a\n  k: 1\nb:\n  <<: *a\n  k: 2\nc:\n  <<: *a\nd: *a\n",
        "a: {k: 1}\nb: {k: 1}\n",
        "1: a\n'1': b\n",
        '{"a":\t[1,\n\t2]}',
        "\ufeffa: 1\n",
    ],
)
def test_what_only_looks_like_a_fault_passes(tmp_path, text):
    path = tmp_path / "my.yaml"
    path.write_text(text)
    require_readable([path])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_every_document_that_yaml_writes_is_read_as_yaml_reads_it(document):
    text = yaml.safe_dump(document)
    assert from_yaml(text) == yaml.safe_load(text)


@given(st.text())
def test_whatever_is_no_yaml_is_a_fault(text):
    with contextlib.suppress(Unreadable):
        from_yaml(text)


def test_every_shipped_file_has_each_key_once():
    for path in REPOSITORY.glob("config/**/*.yaml"):
        from_yaml(path.read_text())


def test_files_that_a_configuration_names_have_each_key_once_too(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(TWICE)
    with pytest.raises(
        UserError, match=r"config: gpu: .*x\.yaml is not YAML \(line 3: the key kv_dtype stands twice"
    ):
        read_mapping(path, "gpu", "name another")
    with pytest.raises(UserError, match=r"x\.yaml is not YAML \(line 3: the key kv_dtype stands twice"):
        load_geometry(path)


def test_make_looks_before_snakemake_does(tmp_path):
    (tmp_path / "my.yaml").write_text(TWICE)
    plan = subprocess.run(
        ["make", "-n", "-o", ".venv/installed", "stores", f"CONFIG={tmp_path / 'my.yaml'}"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    [command] = [line for line in plan.stdout.splitlines() if "snakemake stores" in line]
    looking = command.partition("&& snakemake")[0].replace(". .venv/bin/activate && python", sys.executable)
    looked = subprocess.run(
        ["bash", "-c", looking], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert looked.returncode == 2
    assert re.fullmatch(
        r"hyperkv read_config: error: config: \S+my\.yaml: line 3: the key kv_dtype stands twice, first in line 1; leave one out\n",
        looked.stdout,
    )


def test_snakemake_by_itself_says_so_of_equal_keys(tmp_path):
    checkout = Checkout.new(tmp_path / "checkout", TINY)
    (checkout / "tiny.yaml").write_text(TWICE)
    status, output = checkout.snakemake("--dry-run")
    assert status == 1
    said = r"^config: \S*tiny\.yaml: line 3: the key kv_dtype stands twice, first in line 1; leave one out$"
    assert re.search(said, output, re.MULTILINE), output
