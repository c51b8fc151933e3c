"""The pages of docs are what the kept records give, and nothing else."""

import json
import re
import shutil
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.helpers import command
from tests.kept import H100, KEPT, LAPTOP, kept, kept_with, repeated
from tests.workflow_helpers import merged
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.plan import break_even_spec, cost_spec, predict_spec
from workflow.hyperkv.predict import predict_break_even, predict_hit_rates
from workflow.hyperkv.records.kept_run import ABOUT, write_run
from workflow.hyperkv.report import gpu_answer, make_run_page
from workflow.hyperkv.report.rows import Table, markdown
from workflow.hyperkv.report.run_rows import machine_rows
from workflow.hyperkv.stores.registry import looks

PAGES, TITLES = Path("docs/results"), make_run_page.TITLES
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
RUN_AGAIN = "run `make docs`"


@pytest.fixture(scope="module")
def config() -> dict:
    names = ("config/scenarios.yaml", "config/config.yaml")
    return checked(merged(*(yaml.safe_load(Path(name).read_text()) for name in names)))


@pytest.fixture(scope="module")
def predicted(config, tmp_path_factory) -> list[Path]:
    """What the default configuration predicts."""
    folder = tmp_path_factory.mktemp("predicted")
    rates, needed = folder / "hit_rates.csv", folder / "break_even.csv"
    command(predict_hit_rates, "--spec", predict_spec(config), "--out", rates)
    command(
        predict_break_even, "--spec", break_even_spec(config), "--out", needed, "--text", folder / "text.txt"
    )
    return [rates, needed]


@pytest.fixture(scope="module")
def make(config, predicted, tmp_path_factory):
    """Make the page of a run, of each folder once: its text and its pictures. Of kept runs the earlier ones are beside it."""

    @cache
    def made(folder: Path) -> tuple[str, dict[str, str]]:
        name, out = kept(folder).name, tmp_path_factory.mktemp("page")
        captions = sorted(Path("workflow/report/figures").glob("*.rst"))
        earlier = [
            path
            for path in sorted(KEPT, key=lambda path: path.name)
            if folder in KEPT and path.name < folder.name
        ]
        command(
            make_run_page, "--run", folder, "--earlier", *earlier, "--captions", *captions,
            "--stores", json.dumps(looks()), "--spec", cost_spec(config), "--predicted", *predicted,
            "--gpus", *config["break_even"]["gpus"], "--out", out / f"{name}.md", "--figures", out / name,
        )  # fmt: skip
        pictures = {path.stem: path.read_text() for path in (out / name).iterdir()}
        return (out / f"{name}.md").read_text(), pictures

    return made


@pytest.mark.parametrize("folder", KEPT, ids=str)
def test_the_committed_page_and_pictures_are_what_the_records_give(folder, make):
    name = kept(folder).name
    text, pictures = make(folder)
    assert text == (PAGES / f"{name}.md").read_text(), RUN_AGAIN
    committed = {path.stem: path.read_text() for path in PAGES.glob(f"{name}/*.svg")}
    assert set(pictures) == set(committed) == set(kept(folder).about.figures)
    for figure, drawn in pictures.items():
        assert NUMBER.sub("#", drawn) == NUMBER.sub("#", committed[figure]), f"{figure}: {RUN_AGAIN}"
        numbers = [[float(each) for each in NUMBER.findall(each)] for each in (drawn, committed[figure])]
        assert numbers[0] == pytest.approx(numbers[1], abs=0.01), f"{figure}: {RUN_AGAIN}"


def test_there_are_no_pages_of_runs_that_are_not_kept():
    names = {kept(folder).name for folder in KEPT}
    assert {path.stem for path in PAGES.glob("*-20*.md")} == names
    assert {path.name for path in PAGES.iterdir() if path.is_dir()} <= names


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=str)
def test_links_and_pictures_of_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_another_record_is_another_page(make, tmp_path):
    before, pictures = make(H100)
    run_ = kept(H100)
    records = [json.loads(json.dumps(record)) for record in run_.records]
    for record in records:
        if record["record"] == "cell" and record["scenario"] == "h100_none":
            record["values"]["rps_per_gpu"] *= 2
    folder = tmp_path / "h100" / H100.name
    write_run(folder, run_.about, records, map(str, range(len(records))))
    after, others = make(folder)
    assert before.count("\n") == after.count("\n")
    row = re.compile(r"\| h100_none +\| +20 (?:\| +- ){3}\| +(\S+)")
    assert [float(row.search(text)[1]) for text in (before, after)] == [9.27, pytest.approx(18.5, abs=0.1)]
    ratio = re.compile(r"\| h100_dram +\| +20 \| +(\S+)")
    assert [float(ratio.search(text)[1]) for text in (before, after)] == [1.11, 0.555]
    assert others["tier_tradeoff"] != pictures["tier_tradeoff"]
    assert others["latency"] == pictures["latency"]


@pytest.mark.parametrize("folder", [H100, *kept_with("single")], ids=str)
def test_a_page_of_a_real_engine_is_short(folder, make):
    text, pictures = make(folder)
    prose = [line for line in text.splitlines() if not line.startswith(("|", "<!--", "!["))]
    assert len(" ".join(prose).split()) <= 400
    assert len(pictures) <= 3


def test_a_page_of_a_real_engine_begins_with_what_its_ssd_is_good_for(make):
    assert f"\n\n{gpu_answer.quoted(gpu_answer.answer([kept(H100)]))}\n| | |\n" in make(H100)[0]


def test_a_page_says_what_a_store_must_deliver_to_every_model_and_gpu(make, predicted):
    text, _ = make(LAPTOP)
    rows = [
        line
        for line in text.partition("## What a store must deliver")[2].partition("\n## ")[0].splitlines()
        if "|" in line
    ]
    header, _, *lines = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    shown = {
        (line[0], line[1], gpu): cell
        for line in lines
        for gpu, cell in zip(header[2:], line[2:], strict=True)
    }
    needed = pd.read_csv(predicted[1])
    needed = needed[needed["prompt_tokens"] == 8192]
    assert len(shown) == len(needed)
    own = needed[
        (needed["model"] == "qwen3-32b")
        & (needed["kv_dtype"] == "bfloat16")
        & needed["gpu"].str.contains("L40S")
    ].iloc[0]
    assert own["gpus_for_weights"] == 2
    assert own["required_node_gbps"] == pytest.approx(2 * own["required_gbps"])
    assert shown["qwen3-32b", "bfloat16", "L40S 48GB"] == f"{own['required_node_gbps']:.2g} (2 GPUs)"
    assert "What a store must deliver" not in make(H100)[0]


def test_a_store_behind_devices_is_drawn_over_their_gbps(make, tmp_path):
    run_ = kept(H100)
    records = [*run_.records]
    for gbps in (2, 8):
        for record in repeated(run_.of("cell"), lambda _, repeat: 1.0, 1):
            if record["scenario"] == "h100_striped_mp":
                record["scenario"] = f"h100_striped_mp-{gbps}gbps"
                record["spec"]["scenario"]["shape"] = {"read_gbps": gbps, "latency_us": None}
                record["evidence"] |= {"shaped_read_gbps": 0.99 * gbps, "shaped_read_share": 0.99}
                records.append(record)
    folder = tmp_path / "h100" / H100.name
    about = run_.about.model_copy(update={"figures": ["latency", "tier_tradeoff", "array"]})
    write_run(folder, about, records, map(str, range(len(records))))
    text, pictures = make(folder)
    titles = [TITLES[name] for name in ("latency", "tier_tradeoff", "array")]
    assert re.findall("^## (.*)$", text, re.MULTILINE)[:3] == titles
    assert "GB/s of the device" in pictures["array"] or pictures["array"].count("<path") > 50
    assert re.search(r"\| h100_striped_mp-8gbps +\| +20 \|", text)


def test_what_is_not_valid_is_marked_and_listed(make):
    text, _ = make(H100)
    assert re.search(r"\| ○ h100_striped_mp_disk +\| +20 \|", text)
    assert re.search(r"\| h100_striped_mp_disk +\| 20 clients +\| the store", text)
    assert "the store served 19,429,421,805 bytes, the engine loaded 19,696,451,584" in text


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        (["value_size"], "figures: value_size: not drawn; there are pays, "),
        (["stores"], "needs table stores, and no record is of it"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_named(make, tmp_path, figures, words):
    folder = tmp_path / "h100" / H100.name
    shutil.copytree(H100, folder)
    about = yaml.safe_load((folder / ABOUT).read_text()) | {"figures": figures}
    (folder / ABOUT).write_text(yaml.safe_dump(about))
    with pytest.raises(UserError, match=words):
        make(folder)


def test_scenarios_that_are_not_alike_are_not_drawn_together(make, tmp_path):
    folder = tmp_path / "h100" / H100.name
    shutil.copytree(H100, folder)
    about = yaml.safe_load((folder / ABOUT).read_text()) | {"compared": []}
    (folder / ABOUT).write_text(yaml.safe_dump(about))
    with pytest.raises(UserError, match="scenarios differ in save_decode_cache"):
        make(folder)


def test_a_table_as_markdown_keeps_its_columns():
    table = Table(["name", "n"], [["a|b", "1"], ["c", "2"]], (1,), (1,))
    lines = markdown(table).splitlines()
    assert [line.replace(" ", "") for line in lines] == [
        "|name|n|",
        "|:-------|----:|",
        "|a\\|b|1|",
        "|○c|2|",
    ]


def test_the_page_of_the_default_run_has_every_picture_of_its_own(make):
    text, pictures = make(LAPTOP)
    assert {"tier_tradeoff", "chunk", "stores", "cost", "break_even"} <= set(pictures)
    assert text.count("![") == len(pictures)


def test_a_file_that_moved_since_is_named_where_it_is_now():
    assert list(make_run_page.moved('make run CONFIG="config/h100.yaml my.yaml"')) == [
        "(`config/h100.yaml` is now `config/experiments/gpu.yaml`)"
    ]
    told = "config/experiments/h100.yaml config/experiments/h100_peers.yaml config/experiments/h100_gate.yaml"
    assert list(make_run_page.moved(f'make run CONFIG="{told}"')) == [
        "(`config/experiments/h100.yaml` is now `config/experiments/gpu.yaml`)",
        "(`config/experiments/h100_peers.yaml` is now `config/experiments/gpu/peers.yaml`)",
        "(`config/experiments/h100_gate.yaml` is now `config/experiments/gpu/gate.yaml`)",
    ]
    for told in ("config/experiments/gpu.yaml my.yaml", "config/smoke.yaml", "config/gone.yaml"):
        assert not list(make_run_page.moved(f'make run CONFIG="{told}"'))


def test_the_engine_s_versions_are_those_of_its_own_environment():
    environment = {
        "packages": {"numpy": "2.4.6", "torch": "2.11.0"},
        "engine": {"versions": {"torch": "2.13.0", "vllm": "0.32.0", "lmcache": None}},
        "loadgen": {"versions": {"aiperf": "0.13.0"}},
    }
    told = dict(machine_rows([environment]))["versions"]
    assert told == "vllm 0.32.0, torch 2.13.0, aiperf 0.13.0"


def test_hits_of_the_dram_before_a_store_are_told_apart(make):
    folder = Path("results/reference/h200/2026-11-30-gate")
    of_10, of_40 = re.findall(
        r"^\| gpu_disk +\| +(?:10|40) .*\| ([^|]*?) +\| 1 of 1", make(folder)[0], re.MULTILINE
    )
    assert of_10 == "100 % DRAM"
    assert of_40 == "89 % DRAM, ssd (98 % read)"
