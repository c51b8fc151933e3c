"""A stage's command line: its main's signature, errors of one line, and where nothing but the standard library is there."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
from cyclopts import Parameter

from workflow.hyperkv.base.cli import call
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.base.options import CountOrNone, Counts, Files, Positive, Spec
from workflow.hyperkv.base.sources import sources
from workflow.hyperkv.cells.job import Job

SIZES = Annotated[tuple[int, ...], Parameter(consume_multiple=1)]


def said(*words: str) -> dict:
    """What a main with options of every kind is called with."""
    found = {}

    def main(
        *, spec: Spec, files: Files = (), sizes: SIZES = (1, 2), out_file: Path, fast: bool = False
    ) -> None:
        found.update(spec=spec, files=files, sizes=sizes, out_file=out_file, fast=fast)

    call(main, words)
    return found


def test_options_become_what_their_types_say():
    least = {"spec": {}, "files": (), "sizes": (1, 2), "out_file": Path("x"), "fast": False}
    assert said("--spec", "{}", "--out-file", "x") == least
    words = [
        "--files",
        "a b",
        "--spec",
        '{"a": [1, null]}',
        "--sizes",
        "3",
        "4",
        "--fast",
        "--out-file=-x",
    ]
    assert said(*words) == {
        "spec": {"a": [1, None]},
        "files": (Path("a b"),),
        "sizes": (3, 4),
        "out_file": Path("-x"),
        "fast": True,
    }
    assert said("--files", "--spec", "{}", "--out-file", "x") == least


def main_of_numbers(*, gbps: Positive, workers: CountOrNone = None, sizes: Counts = (1, 2)) -> None:
    """Options that are more than 0."""
    FOUND.append((gbps, workers, sizes))


FOUND: list[tuple] = []


@pytest.mark.parametrize(
    "words",
    ["--gbps 0", "--gbps -1", "--gbps nan", "--gbps inf", "--gbps 1 --workers 0", "--gbps 1 --sizes 4 0"],
)
def test_numbers_that_are_not_above_zero_are_refused_with_their_option(words):
    with pytest.raises(
        UserError, match=rf"for {words.split()[-2 - ('sizes' in words)]}\. it must be more than 0"
    ):
        call(main_of_numbers, words.split())
    call(main_of_numbers, ["--gbps", "0.5", "--workers", "2", "--sizes", "3"])
    call(main_of_numbers, ["--gbps", "2"])
    assert FOUND[-2:] == [(0.5, 2, (3,)), (2.0, None, (1, 2))]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--out-file", "x"], "--spec"),
        (["--spec", "{}"], "--out-file"),
        (["--spec", "{"], "--spec"),
        (["--spec", "[1]"], "--spec: a JSON object is expected"),
        (["--spec", "{}", "--out-file"], "--out-file"),
        (["--spec", "{}", "--out-file", "x", "--sizes", "one"], "--sizes"),
        (["--spec", "{}", "--out-file", "x", "--sizes"], "--sizes"),
        (["--spec", "{}", "--out-file", "x", "--slow"], "--slow"),
        (["--spec", "{}", "--out-file", "x", "stray"], "stray"),
        (["--spec", "{}", "--out-file", "x", "--no-fast"], "--no-fast"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(words, named):
    with pytest.raises(UserError) as caught:
        said(*words)
    assert named in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_group_of_options_is_one_parameter():
    jobs = []

    def main(*, job: Job, repeat: int) -> None:
        jobs.append((job, repeat))

    call(main, ["--spec", '{"a": 1}', "--repeat", "2", "--out", "o", "--code", "abc"])
    assert jobs == [(Job(spec={"a": 1}, out=Path("o"), code="abc"), 2)]


def test_a_command_ends_with_2_for_bad_words_and_shows_its_help():
    command = [sys.executable, "-m", "workflow.hyperkv.tables.columns"]
    bad = subprocess.run([*command, "--nothing", "x"], capture_output=True, text=True, timeout=60)
    assert (bad.returncode, len(bad.stderr.splitlines())) == (2, 1)
    assert bad.stderr.startswith("hyperkv columns: error: ")
    told = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60)
    assert told.returncode == 0
    assert "YAML: tables and their columns" in told.stdout
    assert "python -m workflow.hyperkv.tables.columns --dictionary" in " ".join(told.stdout.split())


# On a machine before anything is installed there, and in the environments of vLLM and LMCache.
BARE = [f"array.{name}" for name in ("inspect_array", "provision_array", "teardown_array", "verify")]
ELSEWHERE = ["build.make_model", "build.preflight", "engines.replay.calibrate"]


@pytest.mark.parametrize("module", BARE)
def test_the_array_needs_the_standard_library_alone(module):
    command = [sys.executable, "-S", "-m", f"workflow.hyperkv.{module}", "--help"]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0


def imported_at_once(path: Path) -> set[str]:
    """The packages that importing a module imports, those in its functions left out."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("module", ELSEWHERE)
def test_what_runs_in_an_engines_environment_does_without_cyclopts(module):
    modules = [path for path in map(Path, sources(module)) if path.suffix == ".py"]
    assert not [path for path in modules if "cyclopts" in imported_at_once(path)]
