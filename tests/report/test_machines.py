"""The same experiment on two machines: which ratios overlap, which do not, and what is refused."""

import json
import re
import subprocess
import sys

import pytest

from tests.kept import H100, kept, repeated, spread_out
from workflow.hyperkv.records.kept_run import KeptRun, write_run
from workflow.hyperkv.report import machines
from workflow.hyperkv.report.make_run_page import same

RUN = kept(H100)
RECORDS = RUN.of("cell", "single")


def one(scenario: str, repeat: int) -> float:
    """A machine whose repeats lie 1 % apart."""
    return 1 + 0.01 * repeat * (scenario != "h100_none")


def another(scenario: str, repeat: int) -> float:
    """One that is half as fast in all, which is in no ratio, and on which DRAM alone is a fifth slower."""
    return 2 * one(scenario, repeat) * (1.2 if scenario == "h100_dram" else 1)


def measured(
    name: str, times=one, repeats=3, change=lambda record: record, code=("abc1234def",)
) -> machines.Measured:
    """A run that was made of the records."""
    return machines.Measured(name, [change(each) for each in repeated(RECORDS, times, repeats)], code)


def wrote(folder, records=RECORDS, **about):
    """A kept run of the records."""
    write_run(folder, RUN.about.model_copy(update=about), records, map(str, range(len(records))))
    return folder


def test_what_overlaps_and_what_does_not_is_told():
    text = machines.text([measured("a"), measured("b", another)])
    lengths = len(
        {
            sample["prompt_tokens"]
            for record in RECORDS
            if record["record"] == "single"
            for sample in record["samples"]
        }
    )
    cells = 4 * 2 - 1 + 4 * lengths  # a load of the disk is not valid
    apart = 2 + lengths
    told = f"more than one run: {cells}, with intervals in two of them: {cells}. Of {cells - apart} ({100 * (cells - apart) / cells:.0f} %)"
    assert told in text
    assert "not of h100_dram at 5 clients, h100_dram at 20 clients, h100_dram at 1,032 tokens" in text
    rows = re.findall(
        r"^\| (○ )?(\w+) +\|.*\| (yes|no) +\|$", text.partition("times recompute's")[2], re.MULTILINE
    )
    assert {scenario for mark, scenario, overlap in rows if mark or overlap == "no"} == {"h100_dram"}
    assert {scenario for _, scenario, overlap in rows if overlap == "yes"} > {
        "h100_striped_mp",
        "h100_offloading",
    }


def test_one_repeat_says_that_nobody_knows():
    text = machines.text([measured("a"), measured("b", another, repeats=1)])
    assert "None has intervals in two of them to compare." in text
    assert not re.search(r"\| (yes|no) +\|$", text.partition("times recompute's")[2], re.MULTILINE)


def test_scenarios_that_were_split_among_machines_are_compared_where_two_have_them():
    def without(*names):
        return lambda run: machines.Measured(
            run.name, [each for each in run.records if each["scenario"] not in names], run.code
        )

    runs = [
        without("h100_striped_mp", "h100_offloading")(measured("a")),
        without("h100_striped_mp_disk")(measured("b")),
        without("h100_striped_mp", "h100_offloading")(measured("c")),
    ]
    assert set(machines.compared(runs)["scenario"]) == {"h100_dram", "h100_striped_mp_disk"}
    assert machines.compared(runs)["overlap"].eq(True).all()


def test_hardware_and_code_are_named_and_no_reason_to_refuse():
    def smaller(record):
        return record | {"environment": record["environment"] | {"cores": 8, "usable_cores": 8}}

    a, b = measured("a"), measured("b", change=smaller)
    assert machines.different(a, b) == ""
    assert re.search(r"\| hardware +\| 16 x .* \| 8 x .* \| no ", machines.text([a, b]))
    assert re.search(r"\| code +\| abc1234 +\| abc1234 +\| yes ", machines.text([a, b]))


OTHER, UNKNOWN = (
    "They ran other code.",
    "Whether the same code ran is not known.",
)


@pytest.mark.parametrize(
    ("codes", "row", "words"),
    [
        ((["abc1234def"], ["abc1234000"]), "abc1234 abc1234 yes", ""),
        ((["abc1234def"], ["abc1235def"]), "abc1234 abc1235 no", OTHER),
        ((["abc1234def"], ["abc1234def", "abc1235def"]), "abc1234 abc1234, abc1235 no", OTHER),
        ((["abc1234def"], ["abc1234def-dirty"]), "abc1234 abc1234-dirty -", UNKNOWN),
        ((["abc1234-dirty"], ["abc1235-dirty"]), "abc1234-dirty abc1235-dirty no", OTHER),
        (([], []), "not told not told -", UNKNOWN),
        (([], ["abc1234def"]), "not told abc1234 -", UNKNOWN),
    ],
)
def test_other_code_is_told_in_a_sentence(codes, row, words):
    text = machines.text([measured(name, code=code) for name, code in zip("ab", codes, strict=True)])
    assert re.search(rf"^ code {row} $", re.sub(r"[ |]+", " ", text), re.MULTILINE)
    assert [each for each in (OTHER, UNKNOWN) if each in text] == [words] * bool(words)


def test_a_scenario_with_other_keys_is_left_out_and_named():
    def wider(record):
        found = json.loads(json.dumps(record))
        if record["scenario"] == "h100_striped_mp":
            found["spec"]["scenario"]["connections"] = 9
        return found

    a, b = measured("a"), measured("b", change=wider)
    assert machines.different(a, b) == ""
    text = machines.text([a, b])
    assert "h100_striped_mp is not compared: connections not alike." in text
    assert "h100_striped_mp |" not in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda record: record["spec"]["workload"].update(conversations=3),
            "workload.conversations not alike",
        ),
        (lambda record: record["spec"].update(model="config/models/other.json"), "model not alike"),
        (lambda record: record["effective"].update(vllm="0.99.0"), "ran with versions vllm 0.25.0, "),
        (
            lambda record: record["environment"].update(gpu=["NVIDIA L4, 1, 2"]),
            "ran with gpu NVIDIA H100 80GB HBM3 and NVIDIA L4",
        ),
    ],
)
def test_what_is_not_the_same_experiment_is_refused_in_a_line(tmp_path, change, words):
    records = json.loads(json.dumps(RECORDS))
    for record in records:
        change(record)
    folders = [wrote(tmp_path / "h100" / "2026-01-01"), wrote(tmp_path / "h100" / "2026-01-02", records)]
    done = compare(*folders)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "h100-2026-01-02: not the experiment of h100-2026-01-01: " in line
    assert words in line


def compare(*folders) -> subprocess.CompletedProcess[str]:
    """The command, as a person types it."""
    module = [sys.executable, "-m", "workflow.hyperkv.report.machines", "--runs", *folders]
    return subprocess.run(
        [str(word) for word in module], capture_output=True, text=True, check=False, timeout=120
    )


def test_a_results_folder_is_taken_for_a_kept_run(tmp_path):
    git = {"commit": "abc1234def", "dirty": True}
    records = [record | {"environment": record["environment"] | {"git": git}} for record in RECORDS]
    spread_out(records, tmp_path / "results")
    done = compare(H100, tmp_path / "results")
    assert (done.returncode, done.stderr) == (0, "")
    shown = re.sub(" +", " ", done.stdout)
    assert f"| h100-2026-11-28 | {tmp_path / 'results'} |" in shown
    assert "| abc1234-dirty |" in shown
    (tmp_path / "empty").mkdir()
    done = compare(H100, tmp_path / "empty")
    assert "empty: neither a kept run nor results with a sweep" in done.stderr
    assert "name two folders at least" in compare(H100).stderr


def test_the_page_of_the_later_run_finds_the_earlier_ones_by_itself(tmp_path):
    other = json.loads(json.dumps(RECORDS))
    for record in other:
        record["spec"]["workload"]["conversations"] = 3
    earlier = [
        wrote(tmp_path / "h100" / "2026-01-01"),
        wrote(tmp_path / "h100" / "2026-01-02", other),
        wrote(
            tmp_path / "h100" / "2026-01-03", configuration={**RUN.about.configuration, "model": "other.json"}
        ),
    ]
    found = same(KeptRun(tmp_path / "h100" / "2026-01-04", RUN.about, [], RECORDS), earlier)
    assert [each.name for each in found] == ["h100-2026-01-01", "h100-2026-01-04"]
    assert same(RUN, earlier[1:]) == []
