"""The workflow as a whole: it runs, and it measures again exactly what a change concerns."""

import csv
import json
import os
import re
import shutil
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from tests.helpers import eventually
from tests.workflow_helpers import TINY, Checkout, changed
from workflow.hyperkv.base.sources import sources
from workflow.hyperkv.config import code
from workflow.hyperkv.records.record_file import identity_in, read_records, write_records

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FIGURES = {"draw_tier_tradeoff", "draw_chunk", "draw_stores", "draw_transport_medium", "draw_layers"}
PREDICTED = {"draw_hit_rate", "draw_break_even", "draw_pays"}
STORES = {"write_stores", "draw_stores"}
PAGE = {"make_page"}
RECOMMENDED = {"choose_scenario", "check_recommended", "make_summary", *PAGE}
PLACED = {"place_stores", "draw_break_even", "write_pays", "draw_pays", "make_summary", *PAGE}
CLAIMS = {"write_claims", *PAGE}
COMPARED = {"write_predicted", "write_summary", *PAGE}
COST = {"write_cost", "draw_cost", *PAGE}
DRAWN_LAYERS = {"write_layers", "draw_layers", "write_summary", *CLAIMS}
LAYERS = {"profile_layers valkey_resp", *DRAWN_LAYERS}
OF_SCENARIOS = FIGURES - {"draw_stores", "draw_layers"}
OF_CELLS = "cells requests scenarios ratios sweep_time latency predicted environment summary"
TABLES = {f"write_{name}" for name in OF_CELLS.split()}
AFTER = TABLES | OF_SCENARIOS | {"draw_hit_rate"} | RECOMMENDED | COST | CLAIMS
SCENARIOS = ["none", "dram-16", "dram-32", "rocksdb_resp", "valkey_resp", "valkey_redis"]
PROFILE = {"profile_store valkey_resp", *STORES, *PLACED, *CLAIMS, *COMPARED}
LIMITS = {"profile_limits", "write_limits", "draw_stores", *PLACED}
HIT_RATES = {"predict_hit_rates", "draw_hit_rate", *CLAIMS}
BREAK_EVEN = {"predict_break_even", *PLACED}


def measured(*scenarios: str) -> set[str]:
    """The sweep's jobs for scenarios, and what follows them."""
    return {f"measure_scenario {name} 1" for name in scenarios} | AFTER


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Checkout:
    """A checkout in which nothing ran. Not to be changed."""
    return Checkout.new(tmp_path_factory.mktemp("fresh") / "checkout")


@pytest.fixture
def checkout(complete, tmp_path) -> Checkout:
    """A copy, in its own folder, of the checkout after a complete run."""
    return complete[0].copy(tmp_path / "checkout")


def test_a_complete_run(complete):
    checkout, output = complete
    with (checkout / "results/tables/cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["scenario"], row["load"]) for row in rows} == {
        (name, load) for name in SCENARIOS for load in "12"
    }
    assert len(rows) == 12
    assert {row["failed_requests"] for row in rows} == {"0"}
    assert all(int(row["loaded_bytes"]) > 0 for row in rows if row["scenario"] != "none")
    for job in FIGURES | PREDICTED:
        name = job.removeprefix("draw_")
        assert (checkout / f"results/figures/{name}.svg").read_text().rstrip().endswith("</svg>")
        assert (checkout / f"results/figures/{name}.png").read_bytes().startswith(b"\x89PNG")
    page = (checkout / "results/report/index.html").read_text()
    assert page.rstrip().endswith("</html>")
    assert page.count("<svg") == 5
    recommendation = json.loads((checkout / "results/recommended/recommendation.json").read_text())
    checks = json.loads((checkout / "results/recommended/check.json").read_text())
    assert recommendation["chosen"]["scenario"] in SCENARIOS
    started = [item["status"] for item in checks if item["what"] == "store.sh"]
    assert started == ["checked"] * len(recommendation["servers"])
    summary = (checkout / "results/tables/summary.txt").read_text()
    assert all(f"\n{name} " in summary for name in SCENARIOS)
    assert "hyperkv sweep: cell" not in output
    *_, last = (checkout / "results/logs/run.log").read_text().splitlines()
    done, planned = re.search(r"hyperkv: (\d+) of (\d+) steps", last).groups()
    assert done == planned
    assert "The stores' files go to results/data: " in output
    assert "HyperKV is done. The answer: results/answer.txt; " in output
    assert not list(checkout.folder.glob("results/**/*.partial"))
    assert not list(checkout.folder.glob("results/**/*.tmp"))
    assert not list(checkout.folder.glob("results/data/*"))


@pytest.mark.parametrize(
    ("target", "jobs"),
    [
        ("stores", {"profile_limits", "profile_store valkey_resp", "write_limits", *STORES}),
        ("layers", LAYERS - {"write_summary", *CLAIMS}),
        ("predict", {"predict_hit_rates", "predict_break_even"}),
    ],
)
def test_a_stage_alone_needs_no_other(target, jobs, fresh):
    assert fresh.planned(target) == jobs


def test_the_decision_is_made_of_predictions_costs_and_claims(complete, fresh):
    checkout, _ = complete
    with (checkout / "results/tables/claims.csv").open() as file:
        verdicts = {row["claim"]: row for row in csv.DictReader(file)}
    assert {row["verdict"] for row in verdicts.values()} <= {"confirmed", "refuted", "undecided"}
    assert "one repeat" in verdicts["dram_beats_recompute"]["reason"]
    assert "no row of cells" in verdicts["tuning_gives_1_5_times"]["reason"]
    assert float(verdicts["native_client_beats_redis_py"]["value"]) > 0
    assert "results/sweep/valkey_redis" in verdicts["native_client_beats_redis_py"]["run"]
    with (checkout / "results/tables/cost.csv").open() as file:
        costs = [row for row in csv.DictReader(file) if row["at"] == "slo"]
    assert {row["scenario"] for row in costs} == set(SCENARIOS)
    assert all(float(row["usd_per_million_tokens"]) > 0 for row in costs)
    assert (checkout / "results/figures/cost.png").read_bytes().startswith(b"\x89PNG")
    planned = fresh.planned("decide")
    assert planned >= {"predict_hit_rates", "predict_break_even", *COST, *CLAIMS} - PAGE
    assert not planned & {"write_summary", "draw_tier_tradeoff"}


def test_a_wrong_claim_or_price_stops_before_anything_runs(tmp_path):
    checkout = Checkout.new(tmp_path / "checkout")
    good = (checkout / "config/claims.yaml").read_text()
    (checkout / "config/claims.yaml").write_text(good.replace("column: rps_per_gpu", "column: rps"))
    status, output = checkout.snakemake()
    assert status != 0
    assert "claim 1 (dram_is_2_5_times_as_fast): column: table cells has no column rps; it has" in output
    (checkout / "config/claims.yaml").write_text(good)
    checkout.configure(changed(TINY, {"cost.prices": "none.yaml"}))
    status, output = checkout.snakemake()
    assert status != 0
    assert "config: cost.prices: there is no file none.yaml" in output
    assert not (checkout / "results").exists()


def test_nothing_is_left_to_do(complete):
    assert complete[0].planned() == set()


# Edits that concern different jobs are looked at together; none hides what another should run.
@pytest.mark.parametrize(
    ("names", "jobs"),
    [
        ("figures/style.py", FIGURES | PREDICTED | PAGE | {"draw_cost"}),
        (
            "figures/chunk.py figures/cost.py figures/hit_rate.py figures/layers.py ../report/page.html.j2"
            " tables/summary.j2 tables/judging/verdict.py",
            {"draw_chunk", "draw_cost", "draw_hit_rate", "draw_layers", "write_summary"} | CLAIMS,
        ),
        ("report/make_page.py tables/limits.py", PAGE | {"write_limits", "draw_stores"}),
        (
            "predict/lru.py recommend/check_recommended.py tables/methods/cost_model.py",
            HIT_RATES | COMPARED | {"check_recommended"} | COST | {"make_summary"},
        ),
        (
            "predict/predict_break_even.py tables/ratios.py profile/null_server.py",
            BREAK_EVEN | {"write_ratios"} | LAYERS,
        ),
        ("predict/place_stores.py tables/latency.py", PLACED | CLAIMS | COMPARED | {"write_latency"}),
        ("stores/rocksdb/server.py connectors/redis.py", measured("rocksdb_resp", "valkey_redis")),
        ("connectors/resp.py", measured("rocksdb_resp", "valkey_resp") | PROFILE | LAYERS),
        (
            "../plugin/lmcache_striped/channels.py",
            measured("rocksdb_resp", "valkey_resp") | PROFILE | LIMITS | LAYERS,
        ),
        ("profile/profile_store.py profile/loopback.py", PROFILE | LIMITS | LAYERS),
        ("profile/rungs.py recommend/recommended_files.py", LAYERS | RECOMMENDED),
        ("tables/layers.py tables/stores.py", DRAWN_LAYERS | STORES | PLACED | COMPARED),
    ],
)
def test_editing_code_runs_what_uses_it(names, jobs, checkout):
    for name in names.split():
        with (checkout / "workflow/hyperkv" / name).open("a") as file:
            file.write("EDITED = True\n" if name.endswith(".py") else "# an edit\n")
    assert checkout.planned() == jobs


def test_editing_the_model_measures_again_but_profiles_no_store(checkout):
    with (checkout / "config/models/llama-3.2-1b.json").open("a") as file:
        file.write("\n")
    assert checkout.planned() == measured(*SCENARIOS) | {"predict_hit_rates"} | BREAK_EVEN


@pytest.mark.parametrize(
    ("changes", "jobs"),
    [
        (
            {"scenarios.rocksdb_resp.loads": [1, 2, 4], "scenarios.dram.chunk_tokens": [16, 32, 48]},
            measured("rocksdb_resp", "dram-48") | {"predict_hit_rates"},
        ),
        ({"scenarios.valkey_resp.connections": 3, "layers.repeats": 3}, measured("valkey_resp") | LAYERS),
        ({"profile.repeats": 2, "scenarios.files.connections": 3}, PROFILE | LIMITS),
        ({"profile.connections": [1, 2]}, PROFILE | LIMITS),
        (
            {"layers.scenarios": [], "break_even.gpus": ["config/gpus/l4.yaml"]},
            DRAWN_LAYERS | BREAK_EVEN | COMPARED,
        ),
        (
            {"figures.chunk_tokens": 32},
            OF_SCENARIOS - {"draw_chunk"} | BREAK_EVEN | CLAIMS | {"write_ratios", "draw_cost"},
        ),
        ({"predict.cases.reference.clients": 2}, HIT_RATES),
        ({"recommend.load": 1, "cost.slo.ttft_p95_ms": 5}, RECOMMENDED | COST | CLAIMS),
    ],
)
def test_changing_a_key_runs_what_depends_on_it(changes, jobs, checkout):
    checkout.configure(changed(TINY, changes))
    assert checkout.planned() == jobs


def code_of(told: dict) -> set[str]:
    """The source files that a job's code is a digest of, by its command line; a server's are its module's."""
    name = told["main"].removeprefix("workflow.hyperkv.")
    options = dict(zip(told["argv"][::2], told["argv"][1::2], strict=False))
    modules_of = {
        "sweep.measure_scenario": code.scenario_modules,
        "profile.profile_store": code.profile_modules,
        "profile.profile_layers": code.layers_modules,
        "profile.profile_limits": code.limits_modules,
        "predict.predict_hit_rates": lambda spec: code.prediction_modules(spec["cases"].values()),
        "recommend.choose_scenario": lambda _: code.recommendation_modules({"kind": "multi_turn"}),
        "recommend.check_recommended": lambda _: code.check_modules(),
        "tables.predicted": lambda _: code.predicted_modules({"kind": "multi_turn"}),
    }
    of_spec = modules_of.get(name, lambda _: [name])
    return set(sources(*of_spec(json.loads(options.get("--spec", "{}")))))


def test_a_job_imports_no_code_but_its_own(complete):
    """What Python really loaded is held against the import closures that the digests are made of."""
    told = [json.loads(path.read_text()) for path in complete[0].folder.with_name("imports").glob("*.json")]
    mains = {one["main"].removeprefix("workflow.hyperkv.") for one in told}
    assert mains >= {
        "sweep.measure_scenario",
        "profile.profile_layers",
        "stores.rocksdb.server",
        "tables.cells",
    }
    assert len(mains) > 25
    for one in told:
        files = {name.replace(".", "/") for name in one["imported"]} | {one["main"].replace(".", "/")}
        loaded = {
            path for name in files for path in (f"{name}.py", f"{name}/__init__.py") if Path(path).exists()
        }
        assert loaded <= code_of(one), (one["main"], loaded - code_of(one))


def test_neither_touching_nor_rewording_nor_moving_nor_what_no_stage_uses_runs_anything(complete, tmp_path):
    complete[0].copy(tmp_path / "first place", keep_mtimes=False)
    checkout = Checkout((tmp_path / "first place").rename(tmp_path / "else where"))
    for folder, _, names in os.walk(checkout.folder):
        for name in names:
            if ".snakemake" not in folder:
                os.utime(os.path.join(folder, name))
    for path in (checkout / "workflow").rglob("*.py"):
        if path.name != "__init__.py":
            path.write_text(f"# reworded\n\n\n{path.read_text()}")
    unused = "README.md config/README.md Makefile tests/workloads/test_chunks.py workflow/hyperkv/engines/replay/calibrate.py"
    for name in unused.split():
        with (checkout / name).open("a") as file:
            file.write("\nEDITED = True\n")
    assert checkout.planned() == set()


def test_a_lost_result_is_measured_again_and_the_others_stay(checkout):
    lost, kept = (checkout / f"results/sweep/{name}/1.jsonl" for name in ("dram-16", "rocksdb_resp"))
    before = kept.stat().st_mtime_ns
    lost.unlink()
    assert checkout.planned() == measured("dram-16")
    status, output = checkout.snakemake("sweep")
    assert status == 0, output
    told = (checkout / "results/logs/sweep/dram-16-1.log").read_text()
    assert "hyperkv sweep: cell 2 of 2, 100%" in told
    assert checkout.loads("dram-16") == [1, 2]
    assert kept.stat().st_mtime_ns == before


STORES_MEASURED = {"profile_store valkey_resp", "profile_layers valkey_resp"}
MEASURING = ("measure_scenario", "profile_store", "profile_limits", "profile_layers")


def measuring(jobs: set[str]) -> set[str]:
    """Those of the jobs that measure."""
    return {job for job in jobs if job.startswith(MEASURING)}


def test_without_metadata_records_say_what_they_are_of_and_the_rest_is_made_again(checkout):
    shutil.rmtree(checkout / ".snakemake")
    everything = AFTER | STORES | HIT_RATES | BREAK_EVEN
    everything |= {"write_columns", "write_limits", "write_layers", "draw_layers"}
    assert checkout.planned() == everything
    checkout.configure(changed(TINY, {"workload.conversations": 4}))
    assert checkout.planned() == everything | measured(*SCENARIOS)
    checkout.configure(changed(TINY, {"profile.point_bytes": 524288, "layers.point_bytes": 524288}))
    assert checkout.planned() == everything | {"profile_limits", *STORES_MEASURED}
    checkout.configure(TINY)
    assert checkout.planned() == everything


def test_what_is_not_as_it_was_made_is_made_again_whatever_the_metadata_says(checkout):
    def edit(name, change):
        path = checkout / name
        path.write_bytes(change(path.read_bytes()))

    edit("results/sweep/none/1.jsonl", lambda _: (checkout / "results/sweep/dram-16/1.jsonl").read_bytes())
    edit("results/profile/valkey_resp.jsonl", lambda data: data[: len(data) // 2])
    for name in ("results/profile/limits/limits.jsonl", "results/figures/chunk.png"):
        (checkout / name).unlink()
        os.mkfifo(checkout / name)
    edit("results/profile/layers/valkey_resp.jsonl", lambda data: data.splitlines(keepends=True)[0] + data)
    edit("results/predict/hit_rates.csv", lambda data: data.replace(b"0.", b"1.", 1))
    edit("results/figures/break_even.png", lambda data: data[:100])
    (garbage,) = (checkout / ".snakemake/metadata").glob(
        urlsafe_b64encode(b"results/predict/break_even.csv").decode()
    )
    garbage.write_bytes(b"\xff\xfe")
    output, jobs = checkout.looked()
    assert "Traceback" not in output
    told = [line for line in output.splitlines() if line.startswith("hyperkv: ")]
    assert len(told) == 3, told
    status, report = checkout.snakemake("--report", "report.html")
    assert status == 0, report
    assert told[0].startswith("hyperkv: .snakemake/metadata: 1 damaged, now removed; ")
    assert "results/sweep/none/1.jsonl" in told[1]
    changed_files = "results/figures/break_even.png, results/figures/chunk.png, results/predict/hit_rates.csv"
    assert told[2].startswith(f"hyperkv: {changed_files}: changed since they were made; ")
    assert measuring(jobs) == {"measure_scenario none 1", "profile_limits", *STORES_MEASURED}
    assert jobs >= {"predict_hit_rates", "draw_break_even", "draw_chunk", "predict_break_even"}
    mended = ["results/predict/hit_rates.csv", "results/predict/break_even.csv"]
    for expected in ({"predict_hit_rates", "predict_break_even"}, set()):
        assert checkout.planned(*mended) == expected
        status, output = checkout.snakemake(*mended)
        assert status == 0, output


def test_what_no_run_noted_at_its_end_is_not_taken_for_made(checkout):
    """As after a kill: Snakemake knows the tables, and nobody knows what they said."""
    (checkout / ".snakemake/hyperkv/made.json").unlink()
    table = checkout / "results/tables/scenarios.csv"
    time = table.stat()
    table.write_bytes(table.read_bytes()[: time.st_size // 2])
    os.utime(table, ns=(time.st_atime_ns, time.st_mtime_ns))
    output, jobs = checkout.looked()
    assert "hyperkv: results/tables/" in output
    assert "the run that made these did not come to its end; made again if needed" in output
    assert jobs >= {"write_scenarios", "predict_hit_rates", "draw_chunk"}
    assert not measuring(jobs)


def test_a_copied_repeat_is_measured(checkout):
    checkout.configure(changed(TINY, {"experiment.repeats": 2}))
    one = checkout / "results/sweep/none/1.jsonl"
    shutil.copy2(one, one.with_name("2.jsonl"))
    for name in SCENARIOS[1:]:
        (checkout / f"results/sweep/{name}/2.jsonl").symlink_to("1.jsonl")
    assert measuring(checkout.planned()) >= {"measure_scenario none 2"}
    status, output = checkout.snakemake(
        "write_cells", "--allowed-rules", "write_cells", "--forcerun", "write_cells"
    )
    assert status == 1
    assert (
        "results/sweep/none/2.jsonl: its records are of repeat 1; delete the file to measure it again"
        in output
    )
    assert "Traceback" not in output


def test_an_older_file_in_a_given_file_s_place_is_seen(checkout):
    claims, model = checkout / "config/claims.yaml", checkout / "workflow/schemas/columns.yaml"
    for path in (claims, model):
        time = path.stat()
        path.write_text(path.read_text() + "# another file\n")
        os.utime(path, ns=(time.st_atime_ns, time.st_mtime_ns - 10**12))
    assert checkout.planned() == CLAIMS | {"write_columns"}


def test_what_was_made_while_the_code_was_edited_is_made_again(checkout):
    """Also when the edit is taken back: nobody knows which code it was."""
    record = checkout / "results/profile/valkey_resp.jsonl"
    code = checkout / "workflow/hyperkv/stores/valkey.py"
    text = code.read_text()
    with checkout.start(*checkout.snakemake_argv("write_stores", "--forcerun", "profile_store")) as run:
        eventually(lambda: list(record.parent.glob("valkey_resp.jsonl.*")))
        code.write_text(text + "EDITED = True\n")
        output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    said = "hyperkv: workflow/hyperkv/stores/valkey.py: edited while they ran; made again if needed: "
    [line] = [line for line in output.splitlines() if line.startswith(said)]
    assert "results/profile/valkey_resp.jsonl" in line
    assert "results/tables/stores.csv" in line
    code.write_text(text)
    assert checkout.planned("write_stores") == {"profile_store valkey_resp", "write_stores"}
    shutil.rmtree(checkout / ".snakemake")
    assert checkout.planned("write_stores") == {"profile_store valkey_resp", "write_stores"}


def test_neither_touch_nor_fewer_triggers_pass_a_table_of_another_configuration_in_silence(checkout):
    checkout.configure(changed(TINY, {"predict.cases.reference.clients": 2}))
    status, output = checkout.snakemake("predict", "--dry-run", "--rerun-triggers", "mtime")
    assert status == 0, output
    assert "hyperkv: --rerun-triggers without params, input and code: " in output
    status, output = checkout.snakemake("predict", "--touch")
    assert status == 0, output
    assert "results/predict/hit_rates.csv: touched, not made; made again if needed" in output
    assert checkout.planned("predict") == {"predict_hit_rates"}


def test_records_of_another_machine_are_tabulated_and_a_stranger_s_file_is_left(checkout, tmp_path):
    """Copied with their older times, of the same configuration; and somebody's notes beside the tables, and a link."""
    path = checkout / "results/sweep/none/1.jsonl"
    times = path.stat()
    records, identity = read_records(path), identity_in(path)
    records[0]["throughput_note"] = "measured elsewhere"
    write_records(path, [str(record["load"]) for record in records], records, identity)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns - 10**9))
    foreign = tmp_path / "foreign.txt"
    own = [checkout / "results/tables/notes.txt", checkout / "results/sweep/none/copy.jsonl", foreign]
    for file in own:
        file.write_text("mine")
    (checkout / "results/figures/link.svg").symlink_to(foreign)
    linked = checkout / "results/tables/latency.csv"
    linked.unlink()
    linked.symlink_to(foreign)
    before = [file.stat().st_mtime_ns for file in own]
    output, jobs = checkout.looked()
    assert (
        "hyperkv: results/tables/latency.csv: a link, so taken as it is, whatever it was made of; delete "
        in output
    )
    assert jobs >= {"write_cells", "write_cost"}
    assert not measuring(jobs)
    assert [file.stat().st_mtime_ns for file in own] == before


def test_a_failing_job_leaves_the_earlier_record_and_nobody_takes_it_for_the_new_one(checkout):
    path = checkout / "results/sweep/rocksdb_resp/1.jsonl"
    before = path.read_bytes()
    (checkout / "in-the-way").write_text("a file")
    checkout.configure(changed(TINY, {"data_dir": "in-the-way"}))
    status, output = checkout.snakemake("results/sweep/rocksdb_resp/1.jsonl")
    assert status == 1
    assert "choose a writable folder" in output
    assert path.read_bytes() == before
    assert "measure_scenario rocksdb_resp 1" in checkout.planned()
    checkout.configure(TINY)
    assert checkout.planned() == set()


def test_a_thousand_cells_are_planned(tmp_path):
    checkout = Checkout.new(tmp_path / "checkout")
    scenario = {"tier": "dram", "store": "valkey", "connector": "resp", "chunk_tokens": [16, 32, 48, 64]}
    families = {f"family{number}": scenario | {"connections": number + 1} for number in range(28)}
    config = changed(TINY, {"experiment.loads": [1, 2, 4], "experiment.repeats": 3})
    config["scenarios"] |= families
    config["experiment"]["scenarios"] = list(families)
    checkout.configure(config)
    jobs = checkout.planned()
    assert len([job for job in jobs if job.startswith("measure_scenario ")]) == 28 * 4 * 3
