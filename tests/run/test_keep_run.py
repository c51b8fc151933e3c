"""Keeping a run: all that was measured, as it stands, with the configuration that it had."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kept import LAPTOP, kept, spread_out
from workflow.hyperkv.records.kept_run import read_run
from workflow.hyperkv.records.record_file import Identity, write_records
from workflow.hyperkv.report.make_run_page import DRAWN
from workflow.hyperkv.run.asked import Asked
from workflow.hyperkv.run.configuration import merged
from workflow.hyperkv.run.keep_run import NEEDS, figures_of, measured, used
from workflow.hyperkv.run.stages import Stages

BASE = ("config/scenarios.yaml", "config/config.yaml")


def keep(results: Path, out: Path, *options: object) -> subprocess.CompletedProcess[str]:
    """The command, as a person types it."""
    module = [sys.executable, "-m", "workflow.hyperkv.run.keep_run"]
    places = ["--results", results, "--out", out]
    return subprocess.run(
        [str(word) for word in (*module, "--config", *BASE, *places, *options)],
        capture_output=True,
        text=True,
        check=False,
    )


def defaults() -> dict[str, Any]:
    """The configuration that ships with the project."""
    return merged(map(Path, BASE), "BASE", "name the project's own files")


def left(records: Iterable[Mapping[str, Any]], results: Path) -> list[Path]:
    """Records as a run of the configuration leaves them."""
    asked = Asked(Stages.of(defaults()))

    def made(path: Path) -> Identity:
        wanted = asked.wanted(f"results/{path.relative_to(results)}")
        return wanted.identity if wanted else Identity("0" * 12, "1" * 12)

    return spread_out(records, results, made)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """What a run left: records and one figure."""
    folder = tmp_path_factory.mktemp("results")
    left(reversed(kept(LAPTOP).of("cell", "point")), folder)
    (folder / "figures").mkdir()
    (folder / "figures" / "chunk.png").write_bytes(b"")
    (folder / "sweep" / ".progress.json").write_text("{}")
    return folder


def test_every_record_is_kept_as_it_stands_in_the_configurations_order(results, tmp_path):
    done = keep(results, tmp_path / "laptop" / "2026-01-01", "--told", "two\n  lines")
    assert (done.returncode, done.stderr) == (0, "")
    run, original = read_run(tmp_path / "laptop" / "2026-01-01"), kept(LAPTOP).of("cell", "point")
    assert sorted(map(json.dumps, run.records)) == sorted(map(json.dumps, original))
    order = list(dict.fromkeys(record["scenario"] for record in run.of("cell")))
    families = list(dict.fromkeys(name.rpartition("-")[0] or name for name in order))
    wanted = yaml.safe_load(Path(BASE[1]).read_text())["experiment"]["scenarios"]
    assert families == [name for name in wanted if name in families]
    repeats = [record["repeat"] for record in run.of("cell") if record["scenario"] == "dram"]
    assert repeats == sorted(repeats)
    assert (run.about.told, run.about.figures) == ("two lines", ["chunk"])
    commits = {record["environment"]["git"]["commit"] for record in original}
    assert {commit.removesuffix("-dirty") for commit in run.about.code} == commits
    assert {*run.about.configuration["scenarios"]} >= {*families}
    assert run.about.configuration["figures"] == {"baseline": None, "chunk_tokens": 64}


def test_the_runs_own_configuration_comes_on_top(results, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("figures: {chunk_tokens: 16}\ncost: {slo: {tps_per_user: 3}}\n")
    done = keep(results, tmp_path / "kept", "--config", *BASE, mine, "--code", "abc1234")
    assert done.returncode == 0, done.stderr
    about = read_run(tmp_path / "kept").about
    assert about.configuration["figures"]["chunk_tokens"] == 16
    assert about.configuration["cost"]["slo"]["tps_per_user"] == 3
    assert about.configuration["experiment"]["repeats"] == 3
    assert about.code == ["abc1234"]
    assert about.title == "The default run"


def test_without_a_title_a_run_is_called_by_its_command(results, tmp_path):
    command = 'make run CONFIG="my.yaml"'
    assert keep(results, tmp_path / "kept", "--command", command).returncode == 0
    assert read_run(tmp_path / "kept").about.title == command


def test_a_figure_without_records_and_one_of_no_page_are_left_out(tmp_path):
    left(kept(LAPTOP).of("cell"), tmp_path / "results")
    (tmp_path / "results" / "figures").mkdir()
    for name in (*NEEDS, "tune"):
        (tmp_path / "results" / "figures" / f"{name}.png").write_bytes(b"")
    done = keep(tmp_path / "results", tmp_path / "kept")
    assert done.returncode == 0, done.stderr
    shown = read_run(tmp_path / "kept").about.figures
    assert shown == sorted(name for name, kind in NEEDS.items() if kind == "cell")
    assert {*NEEDS} == {*DRAWN}


def test_what_another_configuration_left_there_is_not_kept(results, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("experiment: {scenarios: [none, dram]}\nprofile: {scenarios: [files]}\n")
    done = keep(results, tmp_path / "kept", "--config", *BASE, mine)
    assert done.returncode == 0, done.stderr
    run = read_run(tmp_path / "kept")
    swept, alone = ({record["scenario"] for record in run.of(kind)} for kind in ("cell", "point"))
    assert {name.partition("-")[0] for name in swept} == {"none", "dram"}
    assert alone == {"files"}
    assert set(run.about.configuration["scenarios"]) == {"none", "dram", "files"}


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (
            "experiment: {loads: [3]}",
            r"sweep/none/1\.jsonl: measured with loads \[1, .*\], and the configuration has \[3\]",
        ),
        (
            "{workload: {turns: [2, 3]}, scenarios: {none: {timeout_s: 30}}}",
            r"sweep/none/1\.jsonl: measured with workload\.turns \[2, 8\], and .* has \[2, 3\]",
        ),
        (
            "profile: {repeats: 9}",
            r"profile/dram\.jsonl: measured with repeats 3, and the configuration has 9",
        ),
    ],
)
def test_what_was_measured_with_another_configuration_is_refused_with_the_key(results, tmp_path, other, told):
    mine = tmp_path / "mine.yaml"
    mine.write_text(other)
    done = keep(results, tmp_path / "kept", "--config", *BASE, mine)
    assert done.returncode == 2
    assert re.search(told, done.stderr), done.stderr
    assert "; keep a run with the configuration that it had" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "kept").exists()


def test_another_folder_for_stores_is_no_other_configuration_where_nothing_was_put(tmp_path):
    cells = [record for record in kept(LAPTOP).of("cell") if record["scenario"] in ("none", "files")]
    left(cells, tmp_path / "results")
    mine = tmp_path / "mine.yaml"
    mine.write_text("{data_dir: results/elsewhere, experiment: {scenarios: [none]}}")
    done = keep(tmp_path / "results", tmp_path / "kept", "--config", *BASE, mine)
    assert done.returncode == 0, done.stderr
    assert {record["scenario"] for record in read_run(tmp_path / "kept").of("cell")} == {"none"}
    mine.write_text("{data_dir: results/elsewhere, experiment: {scenarios: [files]}}")
    done = keep(tmp_path / "results", tmp_path / "other", "--config", *BASE, mine)
    assert 'measured with data_dir "results/data", and' in done.stderr


def test_what_was_measured_with_another_model_is_refused_with_its_file(tmp_path):
    (one,) = left(kept(LAPTOP).of("cell")[:1], tmp_path / "results")
    lines = one.read_text().splitlines(keepends=True)
    disowned = Identity("0" * 12, "1" * 12)
    write_records(one, ["0"], [json.loads(lines[0])], disowned)
    mine = tmp_path / "mine.yaml"
    mine.write_text("scenarios: {none: {timeout_s: 30}}")
    done = keep(tmp_path / "results", tmp_path / "kept", "--config", *BASE, mine)
    assert done.returncode == 2
    told = r"measured with other contents of config/models/\S+\.json, config/gpus/\S+\.yaml; keep a run with"
    assert re.search(told, done.stderr), done.stderr


def test_a_real_engines_page_gets_three_figures_or_those_that_are_named(tmp_path):
    records = [{"record": kind} for kind in NEEDS.values()]
    (tmp_path / "figures").mkdir()
    for name in ("array", "chunk", "cost", "hit_rate", "latency", "tier_tradeoff"):
        (tmp_path / "figures" / f"{name}.png").touch()
    assert figures_of({"engine": "vllm"}, tmp_path, records) == [
        "latency",
        "tier_tradeoff",
        "array",
    ]
    (tmp_path / "figures" / "array.png").unlink()
    assert figures_of({"engine": "vllm"}, tmp_path, records) == ["latency", "tier_tradeoff", "cost"]
    assert len(figures_of({"engine": "replay"}, tmp_path, records)) == 5


def test_scenarios_behind_a_device_are_kept_with_what_was_put_behind_it(tmp_path):
    cell = next(
        each for each in kept(LAPTOP).of("cell") if each["scenario"] == "files" and each["repeat"] == 1
    )
    names = ("files", "files-0_5gbps", "files-2gbps", "other-2gbps")
    left([cell | {"scenario": name} for name in names], tmp_path)
    configuration = defaults()
    configuration["experiment"]["scenarios"] = ["none", "files"]
    found = [record["scenario"] for _, record in measured(tmp_path, configuration)]
    assert sorted(found) == ["files", "files-0_5gbps", "files-2gbps"]
    assert list(used({"none": {}, "files": {}}, [{"scenario": name} for name in found])) == ["files"]


def test_a_calibration_is_kept_too(tmp_path):
    calibrations = [
        run for run in map(kept, Path("results/reference/h100").iterdir()) if run.of("calibration")
    ]
    document = calibrations[0].of("calibration")[0]
    path = tmp_path / "calibration.json"
    path.write_text(
        json.dumps({key: document[key] for key in document if key not in ("record", "schema_version")})
    )
    done = keep(tmp_path, tmp_path / "kept", "--calibrations", path)
    assert done.returncode == 0, done.stderr
    assert read_run(tmp_path / "kept").records == [document]


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda results, out: None, "nothing was measured there; --results names the folder of a run"),
        (
            lambda results, out: (
                (results / "array").mkdir() or (results / "array" / "baseline.jsonl").write_text("{")
            ),
            "not JSON",
        ),
        (
            lambda results, out: left(kept(LAPTOP).of("point"), results) and out.mkdir(),
            "is there already; name another DATE",
        ),
    ],
)
def test_what_cannot_be_kept_is_one_line_and_leaves_no_folder(tmp_path, prepare, words):
    out = tmp_path / "kept"
    prepare(tmp_path, out)
    done = keep(tmp_path, out)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr
    assert not out.exists() or not list(out.iterdir())
