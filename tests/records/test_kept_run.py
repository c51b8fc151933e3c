"""A run that is kept in the repository: whole, its own machine beside it, and refused in a line where it is not."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.kept import H100, KEPT, LAPTOP, kept
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.records.hardware import unique_environments
from workflow.hyperkv.records.kept_run import ABOUT, MACHINE, RECORDS, read_run, write_run
from workflow.hyperkv.records.kinds.record import SCHEMA_VERSION


@pytest.mark.parametrize("folder", KEPT, ids=str)
def test_a_folder_holds_its_records_machine_and_configuration(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted([RECORDS, MACHINE, ABOUT])
    run = kept(folder)
    assert run.records
    assert {record["schema_version"] for record in run.records} == {SCHEMA_VERSION}
    assert run.environments == unique_environments(run.records)
    measured = {record.get("scenario") for record in run.records} - {None}
    families = set(run.about.configuration["scenarios"])
    assert {
        name for name in measured if name not in families and name.rpartition("-")[0] not in families
    } == set()
    assert all(len(commit.removesuffix("-dirty")) >= 7 for commit in run.about.code)


def test_all_of_them_are_small():
    assert sum(path.stat().st_size for path in Path("results/reference").rglob("*.*")) < 6 << 20


def test_what_was_written_is_read(tmp_path):
    run = kept(H100)
    folder = tmp_path / "machine" / "2026-01-01"
    write_run(folder, run.about, run.records, [f"{number}" for number in range(len(run.records))])
    again = read_run(folder)
    assert (again.about, again.records, again.environments) == (run.about, run.records, run.environments)
    assert again.name == "machine-2026-01-01"
    with pytest.raises(UserError, match="is there already; name another DATE"):
        write_run(folder, run.about, run.records, [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"title": 1}, "title: Input should be a valid string"),
        ({"figure": []}, "figure: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_word_about_it_is_named(tmp_path, change, words):
    folder = tmp_path / "run"
    shutil.copytree(LAPTOP, folder)
    about = yaml.safe_load((folder / ABOUT).read_text()) | change
    (folder / ABOUT).write_text(yaml.safe_dump(about))
    with pytest.raises(UserError, match=words):
        read_run(folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [(ABOUT, "there is no file"), (RECORDS, "its lines are not those that were measured")],
)
def test_what_is_missing_or_was_changed_by_hand_is_refused(tmp_path, name, words):
    folder = tmp_path / "run"
    shutil.copytree(LAPTOP, folder)
    if name == ABOUT:
        (folder / name).unlink()
    else:
        first, *rest = (folder / name).read_text().splitlines()
        changed = json.dumps(json.loads(first) | {"repeat": 9})
        (folder / name).write_text("\n".join([changed, *rest]) + "\n")
    with pytest.raises(UserError, match=words):
        read_run(folder)
