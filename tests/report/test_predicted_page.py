"""What docs say of predictions is what the kept records give."""

from pathlib import Path

from tests.kept import H100, KEPT, LAPTOP, kept
from workflow.hyperkv.report.front import write_between
from workflow.hyperkv.report.predicted_page import PAGE, main, table

GPUS = sorted(Path("config/gpus").glob("*.yaml"))


def test_the_committed_table_is_what_the_records_give(tmp_path):
    page = tmp_path / "predict.md"
    page.write_text(PAGE.read_text())
    write_between(page, "predicted", "")
    assert page.read_text() != PAGE.read_text()
    main(page=page)
    assert page.read_text() == PAGE.read_text(), "run `make docs`"


def test_a_run_of_replay_and_one_that_compares_nothing_have_no_row():
    (calibration,) = (folder for folder in KEPT if folder.name.endswith("calibration"))
    lines = table([kept(folder) for folder in (LAPTOP, calibration, H100)], GPUS).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| [h100-2026-11-28](results/h100-2026-11-28.md)",
        "| all",
    ]
    assert lines[2].split(" | ")[3:] == lines[3].split(" | ")[3:]
    assert " | 4 of 4, -11 to +3 % | " in lines[2]
    assert len(table([], GPUS).splitlines()) == 2
