"""The study on disk: what it tries, what it ends early, what it records, and how it goes on after a kill."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tune.made_up import PARAMETERS, a_round, rounds
from workflow.hyperkv.base.errors import StoreError, UserError
from workflow.hyperkv.tune.space import Parameter
from workflow.hyperkv.tune.study import as_record, best, importances, judged, open_study, search, spent_s

OWN = {parameter.name: parameter.own for parameter in PARAMETERS}

# Runs a search whose trial 6 says so and then waits for ever, unless it is told to go on.
PROGRAM = """
import sys, time
from pathlib import Path
from tests.tune.made_up import PARAMETERS, rounds
from workflow.hyperkv.tune.study import judged, open_study, search
study = open_study(Path(sys.argv[1]), "one", "median")
def measure(values):
    if sys.argv[2] == "wait" and len(judged(study)) == 6:
        print("waiting", flush=True)
        time.sleep(60)
    yield from rounds(values)
search(study, PARAMETERS, measure, seed=3, trials=14, budget_s=1e6)
"""


def searched(path: Path, measure=rounds, trials=14, seed=3, pruner="median", budget_s=1e6):
    study = open_study(path, "one", pruner)
    search(study, PARAMETERS, measure, seed=seed, trials=trials, budget_s=budget_s)
    return study


def tried(study) -> list[dict]:
    return [trial.params for trial in judged(study)]


def test_the_scenario_as_it_is_comes_first_and_the_search_finds_better(tmp_path):
    study = searched(tmp_path / "study.journal", trials=40)
    assert tried(study)[0] == OWN
    assert best(study, OWN, 3)[0] == best(study, OWN, 1)[0] != OWN
    costs = [next(iter(rounds(values))).cost_s_per_ktokens for values in [OWN, *best(study, OWN, 1)]]
    assert costs[1] < costs[0] / 2
    found = importances(study)
    assert max(found, key=found.get) == "connections"
    assert sum(found.values()) == pytest.approx(1)


def test_the_same_seed_and_values_give_the_same_trials_and_another_seed_others(tmp_path):
    one = tried(searched(tmp_path / "1"))
    assert tried(searched(tmp_path / "2")) == one
    assert tried(searched(tmp_path / "3", seed=4)) != one


def test_a_search_that_is_killed_goes_on_as_if_it_had_not_been(tmp_path):
    path = tmp_path / "study.journal"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path), "wait"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "waiting\n"
        finally:
            process.send_signal(signal.SIGKILL)
    assert len(judged(open_study(path, "one", "median"))) == 6
    with path.open("ab") as file:
        file.write(b'{"op_code": 5, "worker_id"')  # the line that was being written
    subprocess.run([sys.executable, "-c", PROGRAM, str(path), "go"], check=True, timeout=60)
    study = open_study(path, "one", "median")
    assert tried(study) == tried(searched(tmp_path / "uninterrupted"))
    stopped = [t for t in study.get_trials() if t.user_attrs.get("reason") == "the run was stopped"]
    assert [trial.params for trial in stopped] == [tried(study)[6]]


def test_a_finished_search_measures_nothing_and_more_trials_go_on(tmp_path):
    first = tried(searched(tmp_path / "study.journal"))

    def refuse(values):
        raise AssertionError("measured again")

    assert tried(searched(tmp_path / "study.journal", measure=refuse)) == first
    longer = tried(searched(tmp_path / "study.journal", trials=16))
    assert longer[:14] == first
    assert len(longer) == 16


def test_another_study_in_the_same_journal_starts_anew(tmp_path):
    searched(tmp_path / "study.journal")
    other = open_study(tmp_path / "study.journal", "two", "median")
    assert judged(other) == []


def test_the_budget_counts_the_time_of_all_runs(tmp_path):
    study = searched(tmp_path / "study.journal", trials=5)
    assert spent_s(study) > 0
    again = searched(tmp_path / "study.journal", trials=50, budget_s=spent_s(study))
    assert len(judged(again)) == 5


@pytest.mark.parametrize(("pruner", "some"), [("median", True), ("halving", True), ("none", False)])
def test_a_trial_worse_than_most_ends_early_and_is_closed(tmp_path, pruner, some):
    ended = []

    def measure(values):
        given = 0
        try:
            for result in rounds(values, 8):
                given += 1
                yield result
        finally:
            ended.append(given)

    study = searched(tmp_path / "study.journal", measure=measure, trials=30, pruner=pruner)
    records = [as_record(trial) for trial in judged(study)]
    pruned = [record for record in records if record.state == "pruned"]
    assert bool(pruned) == some
    assert [len(record.rounds) for record in records] == ended
    assert all(len(record.rounds) == 8 for record in records if record.state == "complete")
    assert all("pruned after" in record.reason for record in pruned)


def test_a_trial_that_fails_is_recorded_with_its_reason_and_never_best(tmp_path):
    def measure(values):
        yield a_round(0.001)
        if values["stripe_bytes"] == 4:
            raise StoreError("store valkey (pid 1) died with signal 9 (SIGKILL)")
        yield a_round(1.0)

    study = searched(tmp_path / "study.journal", measure=measure, trials=30, pruner="none")
    records = [as_record(trial) for trial in judged(study)]
    failed = [record for record in records if record.state == "failed"]
    assert failed
    assert {record.reason for record in failed} == {"store valkey (pid 1) died with signal 9 (SIGKILL)"}
    assert all(values["stripe_bytes"] != 4 for values in best(study, OWN, 30))
    told = [record.dump() for record in records]
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_values_tried_twice_count_with_their_median(tmp_path):
    study = open_study(tmp_path / "study.journal", "one", "none")
    parameter = Parameter("connections", 1, (1, 2, 4))
    costs = {1: [1.0] * 9, 2: [0.1, *[5.0] * 8], 4: [2.0] * 9}
    search(
        study,
        [parameter],
        lambda values: (a_round(costs[values["connections"]].pop(0)) for _ in range(1)),
        seed=1,
        trials=9,
        budget_s=1e6,
    )
    assert len(costs[2]) < 8  # it was tried again
    assert best(study, {"connections": 1}, 2) == [{"connections": 4}, {"connections": 2}]


def test_a_file_whose_entries_make_no_study_is_refused_by_its_name(tmp_path):
    (tmp_path / "study.journal").write_text('{"op_code": 99, "worker_id": "x"}\n')
    with pytest.raises(UserError, match=r"study\.journal is not a study's journal .*delete it"):
        open_study(tmp_path / "study.journal", "one", "median")


@pytest.mark.parametrize(
    "damage",
    [b"\xff\xfe\n", b"not a journal\n", b"[1]\n", b"{}\n", b"[" * 200_000 + b"\n", b"\0" * 4096 + b"\n"],
)
def test_a_damaged_journal_keeps_the_trials_before_the_damage(tmp_path, damage):
    path = tmp_path / "study.journal"
    study = open_study(path, "one", "median")
    for _ in range(2):
        study.tell(study.ask(), 1.0)
    lines = path.read_bytes().splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if json.loads(line)["op_code"] == 6)  # told
    path.write_bytes(b"".join([*lines[: first + 1], damage, *lines[first + 1 :]]))
    told = []
    assert len(open_study(path, "one", "median", told.append).trials) == 1
    assert "study.journal was damaged; what follows the damage is now in" in told[0]
    assert (tmp_path / "study.journal.damaged").read_bytes().startswith(damage)
    assert len(open_study(path, "one", "median", told.append).trials) == 1
    assert len(told) == 1
