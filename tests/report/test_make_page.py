"""The page of a run: what it says comes from the tables, whatever is in them and whatever is missing."""

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers import command
from tests.kept import H100, LAPTOP, kept
from tests.report.pages import (
    CLAIMS,
    COST,
    HOSTILE,
    PAYS,
    SECTIONS,
    cells_of,
    drawn_latency,
    drawn_pays,
    few_cells,
    kept_pictures,
    page_of,
    spoiled,
)
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.records.frames import read_named
from workflow.hyperkv.report import make_page
from workflow.hyperkv.report.inline import SVG, inlined
from workflow.hyperkv.report.rows import cost_rows, interval_text, layers_rows
from workflow.hyperkv.tables.methods.pays_text import answer, caveat
from workflow.hyperkv.tables.methods.told_apart import told_apart
from workflow.hyperkv.tables.ratios import ratios_table
from workflow.hyperkv.tables.scenarios import scenarios_table


class Reader(HTMLParser):
    """Tags with their attributes, ids, and the text between."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def links(self) -> set[str]:
        return {attributes.get("href") or attributes["xlink:href"] for attributes in self.all("a")}

    @property
    def ids(self) -> set[str]:
        return {attributes["id"] for _, attributes in self.tags if "id" in attributes}

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def laptop(tmp_path_factory) -> Reader:
    """The page of the reference run with the replay engine."""
    return Reader(page_of(tmp_path_factory.mktemp("pages") / "laptop", cells_of(LAPTOP)))


def test_every_section_is_there_and_every_link_leads_to_one(laptop):
    assert set(SECTIONS) <= laptop.ids
    without_table = "cost"
    links = {link for link in laptop.links if re.match(f"#(?!{without_table}-)", link)}
    assert links
    assert {link.removeprefix("#") for link in links} <= laptop.ids


def test_no_id_is_there_twice(laptop):
    found = [attributes["id"] for _, attributes in laptop.tags if "id" in attributes]
    assert len(found) == len(set(found))


def test_points_lead_to_rows_and_rows_to_the_lines_of_their_records(tmp_path):
    path = page_of(tmp_path / "page", cells_of(LAPTOP))
    page = Reader(path)
    points = {link[1:] for link in page.links if link.startswith("#cell-")}
    rows = {id for id in page.ids if id.startswith("cell-")}
    assert points
    assert points <= rows
    assert len(rows) == len(cells_of(LAPTOP).drop_duplicates(["scenario", "load"]))
    seen = []
    pattern = r'<tr id="cell-([^"]+)"(?: class="marked")?>(.*?)</tr>'
    for place, row in re.findall(pattern, path.read_text()):
        for href, line in re.findall(r'<a href="([^"]+)">\d+\.jsonl:(\d+)</a>', row):
            record = json.loads((path.parent / href).read_text().splitlines()[int(line) - 1])
            assert place == f"{record['scenario']}-{record['load']:g}"
            seen.append((place, record["repeat"]))
    assert len(seen) == len(set(seen)) == len(cells_of(LAPTOP))


def test_a_page_with_pays_begins_with_its_answer(tmp_path):
    figures = [*kept_pictures(), drawn_pays(tmp_path / "figures")]
    page = Reader(page_of(tmp_path / "page", few_cells(), extra={"pays": PAYS}, figures=figures))
    assert next(attributes["id"] for attributes in page.all("figure")) == "figure-pays"
    sentences = [*answer(PAYS), caveat(PAYS)]
    begin = page.text.index(sentences[0])
    assert begin < page.text.index("What the sweep says")
    assert all(sentence in page.text for sentence in sentences)
    assert {link[1:] for link in page.links if link.startswith("#pays-")} == {
        id for id in page.ids if id.startswith("pays-") and id.endswith(("8192", "32768"))
    }
    assert "1.7 [1.5, 1.8]" in page.text


def test_four_figures_with_titles_alternatives_and_captions(laptop):
    assert [attributes["id"] for attributes in laptop.all("figure")] == [
        f"figure-{name}" for name in ("tier_tradeoff", "transport_medium", "chunk", "cost")
    ]
    images = laptop.all("svg")
    assert len(images) == len(laptop.all("figcaption")) == 4
    assert all(image["role"] == "img" and len(image["aria-label"]) > 40 for image in images)
    assert "Above: dollars per million tokens, prompt and answer" in laptop.text
    assert not [label for image in images if "`" in (label := image["aria-label"])]


def test_what_is_code_in_a_caption_is_code_on_the_page_and_on_a_runs_page(tmp_path):
    page = page_of(tmp_path / "page", few_cells()).read_text()
    captions = re.findall("<figcaption>(.*?)</figcaption>", page, re.DOTALL)
    told = make_page.paragraph(Path("workflow/report/figures/cost.rst").read_text())
    code = [word for caption in captions for word in re.findall("<code>(.*?)</code>", caption)]
    assert code == ["cost_sensitivity.csv"]
    assert "`cost_sensitivity.csv` has every price" in told
    assert "`" not in "".join(captions)


def test_nothing_is_loaded_from_elsewhere(laptop):
    assert not laptop.all("script")
    assert not laptop.all("img")
    assert [link["href"] for link in laptop.all("link")] == ["data:,"]
    policy = next(meta["content"] for meta in laptop.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'")


def test_headings_do_not_skip_a_level(laptop):
    levels = [int(tag[1]) for tag, _ in laptop.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))


def test_the_answer_is_what_the_tables_say(laptop):
    cells = cells_of(LAPTOP)
    ratios = ratios_table(cells, "dram")
    at_load = ratios[(ratios["metric"] == "rps_per_gpu") & (ratios["load"] == 4)].set_index("scenario")
    assert f"{interval_text(at_load.loc['files'], 'ratio')} times" in laptop.text
    assert re.search(r"Keep KV in DRAM with scenario \S+: ", laptop.text)
    assert re.search(r"of the bytes loaded from SSD, [\d %to]+ were read from the block device", laptop.text)
    assert f"{len(cells)}, {len(cells)} of them valid" in laptop.text
    assert "Every cell proved itself." in laptop.text


def test_the_page_says_which_figure_tells_the_scenarios_apart(tmp_path, laptop):
    said = told_apart(scenarios_table(cells_of(LAPTOP)))
    assert said.startswith("At 4 clients RPS/GPU hardly tells")
    assert said in laptop.text


def test_another_run_gets_another_answer(tmp_path):
    cells = few_cells()
    computed = cells["scenario"] == "none"
    cells.loc[computed, "rps_per_gpu"] = cells.loc[computed, "rps_per_gpu"] * 4
    page = Reader(page_of(tmp_path / "page", cells))
    assert "Do not offload" in page.text
    assert "Keep KV in" not in page.text


def test_claims_and_costs_are_shown_when_they_are_among_the_tables(tmp_path, laptop):
    assert not {"claims", "cost"} & laptop.ids
    page = Reader(page_of(tmp_path / "page", few_cells(), extra={"claims": CLAIMS, "cost": COST}))
    assert {"claims", "cost"} <= page.ids
    assert "Claims: 1 confirmed, 1 refuted, 1 undecided." in page.text
    assert "1.03 [1.02, 1.16] ratio" in page.text
    assert "0.123 [0.120, 0.130]" in page.text
    assert "9.00" not in page.text.partition("Cost")[2].partition("Claims")[0]


def every_text(value):
    """A JSON document with every text replaced by a hostile one."""
    if isinstance(value, dict):
        return {key: every_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [every_text(item) for item in value]
    return HOSTILE if isinstance(value, str) else value


def test_texts_and_names_are_escaped(tmp_path):
    told = every_text(kept(LAPTOP).environments)
    named = dict.fromkeys(("gpu", "model", "notes", "gpu_scaled_from"), HOSTILE)
    cells = spoiled(few_cells(), "rocksdb_resp").assign(**named)
    claims = CLAIMS.assign(source=HOSTILE, unit=HOSTILE, machine=HOSTILE)
    checks = [{"what": HOSTILE, "status": "checked", "detail": HOSTILE}]
    page = page_of(tmp_path / "page", cells, environments=told, extra={"claims": claims}, checks=checks)
    assert HOSTILE not in page.read_text()
    reader = Reader(page)
    assert not reader.all("script")
    assert not reader.all("img")
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    assert HOSTILE in reader.text


def test_invalid_cells_are_listed_with_their_reasons(tmp_path):
    page = Reader(
        page_of(tmp_path / "page", spoiled(few_cells(), "rocksdb_resp", "40 % read from the device"))
    )
    assert "48, 39 of them valid" in page.text
    assert page.text.count("40 % read from the device") == 9 + 3  # cells, and loads that were left out
    assert "no, 0 of 3" in page.text
    assert "Every cell proved itself" not in page.text
    assert any("marked" in row.get("class", "") for row in page.all("tr"))
    said = page.text.partition("With queues")[2].partition("Medians over repeats")[0]
    assert said
    assert "rocksdb_resp" not in said
    assert "○ rocksdb_resp" in page.text


def test_a_run_without_an_ssd_says_so(tmp_path):
    cells = few_cells()
    page = Reader(page_of(tmp_path / "page", cells[cells["tier"] != "ssd"]))
    assert "No SSD store served clients, so this run does not tell what an SSD costs." in page.text
    assert "Bytes read from the device per byte loaded" not in page.text


def test_a_run_of_recompute_alone_says_so(tmp_path):
    cells = few_cells()
    page = Reader(page_of(tmp_path / "page", cells[cells["tier"] == "none"], figures=[]))
    assert "Nothing was measured beside recompute" in page.text
    assert "Nothing but recompute served clients, so this run does not tell what an SSD costs." in page.text
    assert "There is no DRAM scenario that others could be compared with" in page.text
    assert "There are no figures" in page.text
    assert set(SECTIONS) <= page.ids


def test_a_run_with_nothing_valid_recommends_nothing(tmp_path):
    cells = few_cells()
    for name in cells["scenario"].unique():
        cells = spoiled(cells, name, "3 requests failed")
    page = Reader(page_of(tmp_path / "page", cells))
    assert "Nothing can be recommended" in page.text
    assert "48, 0 of them valid" in page.text


def test_a_real_engine_on_a_gpu_has_no_modelled_parts(tmp_path):
    page = Reader(page_of(tmp_path / "page", cells_of(H100), reference=H100, baseline="h100_dram"))
    assert [attributes["id"] for attributes in page.all("figure")] == [
        "figure-tier_tradeoff",
        "figure-latency",
        "figure-break_even",
    ]
    assert "Engine replay has no GPU" not in page.text
    assert "One repeat: there are no intervals" in page.text
    assert "(one repeat, no interval)" in page.text


def test_single_requests_have_rows_that_lead_to_their_records(tmp_path):
    table, figure = drawn_latency(tmp_path / "figures")
    path = page_of(
        tmp_path / "page",
        cells_of(H100),
        H100,
        extra={"latency": table},
        figures=[figure],
        baseline="h100_dram",
    )
    page = Reader(path)
    points = {link[1:] for link in page.links if link.startswith("#single-")}
    assert points == {id for id in page.ids if id.startswith("single-")}
    assert len(points) == len(table.drop_duplicates(["scenario", "prompt_tokens"]))
    rows = re.findall(r'<tr id="single-(.+?)-\d+"(?: class="marked")?>(.*?)</tr>', path.read_text())
    for scenario, row in rows:
        (href, line), *_ = re.findall(r'<a href="([^"]+)">\d+\.jsonl:(\d+)</a>', row)
        record = json.loads((path.parent / href).read_text().splitlines()[int(line) - 1])
        assert (record["record"], record["scenario"]) == ("single", scenario)


def test_what_was_checked_is_shown(tmp_path):
    checks = [
        {"what": "store.sh", "status": "not checked", "detail": "the recommended scenario has no server"}
    ]
    page = Reader(page_of(tmp_path / "page", few_cells(), checks=checks))
    assert "not checked : the recommended scenario has no server" in page.text


def test_a_missing_table_is_named(tmp_path):
    path = tmp_path / "cells.csv"
    path.write_text("scenario\nnone\n")
    with pytest.raises(
        UserError, match=r"scenarios, ratios, environment, recommendation is not among the files"
    ):
        read_named([path], make_page.NEEDED)


def test_each_place_shows_its_first_figure_with_its_caption(tmp_path):
    files = [tmp_path / f"{name}.svg" for name in ("break_even", "chunk", "cost", "stores")]
    captions = [tmp_path / f"{name}.rst" for name in ("chunk", "cost")]
    for path in files:
        path.write_text(f'<svg xmlns="{SVG}"/>')
    for path in captions:
        path.write_text(f"About ``{path.stem}``\nhere.\n")
    shown = make_page.pictures(files, captions)
    assert [(picture.name, picture.caption) for picture in shown] == [
        ("chunk", "About `chunk` here."),
        ("cost", "About `cost` here."),
    ]
    with pytest.raises(UserError, match=r"figure cost has no caption; give cost\.rst with --captions"):
        make_page.pictures(files, captions[:1])


def test_an_inlined_figure_has_ids_of_its_own_and_keeps_its_links(tmp_path):
    path = tmp_path / "one.svg"
    path.write_text(
        f'<svg xmlns="{SVG}" xmlns:xlink="http://www.w3.org/1999/xlink" width="9pt"><style>*{{}}</style><metadata/>'
        '<!-- </svg><script> --><defs><path id="a"/></defs><use xlink:href="#a" style="fill: url(#a)"/>'
        '<a xlink:href="#cell-x-1" target="_blank"><path clip-path="url(#a)"/></a></svg>'
    )
    found = inlined(path, 'a "b"')
    assert 'id="one-a"' in found
    assert found.count('"#one-a"') == 1
    assert found.count("url(#one-a)") == 2
    assert 'xlink:href="#cell-x-1"' in found
    assert 'aria-label="a &quot;b&quot;"' in found
    assert not re.search("script|style>|metadata|target|width", found)
    path.write_text("<svg>")
    with pytest.raises(UserError, match=r"one\.svg: not an SVG"):
        inlined(path, "")


def test_costs_are_those_at_the_slo_and_else_at_the_loads():
    table = cost_rows(COST)
    assert [row[:4] for row in table.rows] == [
        ["none", "427 TPS/user", "0.123 [0.120, 0.130]", "4.00 [3.90, 4.10] or more"],
        ["dram", "427 TPS/user, TTFT p95 500 ms", "0.125", "3.50"],
    ]
    assert table.marked == [1]
    assert table.ids == ["cost-none-slo", "cost-dram-slo"]
    assert [row[1] for row in cost_rows(COST[COST["at"] == "load"]).rows] == ["load 4"]


def layers(**changes) -> pd.DataFrame:
    rows = [
        {"kind": "whole", "layer": "whole", "s_per_gb": 2.0, "share": None, "distinguishable": True},
        {"kind": "layer", "layer": "wire", "s_per_gb": 0.5, "share": 0.25, "distinguishable": True},
        {"kind": "layer", "layer": "device", "s_per_gb": 1.4, "share": 0.7, "distinguishable": True},
        {"kind": "layer", "layer": "protocol", "s_per_gb": 0.1, "share": None, "distinguishable": False},
        {"kind": "group", "layer": "serialization", "s_per_gb": 0.6, "share": 0.3, "distinguishable": True},
    ]
    table = pd.DataFrame(rows).assign(
        scenario="rocksdb_resp", operation="get", value_bytes=1 << 24, connections=4
    )
    for name in ("s_per_gb", "share"):
        table[f"{name}_low"], table[f"{name}_high"] = table[name] - 0.05, table[name] + 0.05
    return table.assign(**changes)


def test_layers_are_named_the_largest_first():
    table = layers_rows(layers(), {"wire": "wire", "device": "the device"})
    shares = "70 % [65 %, 75 %] the device, 25 % [20 %, 30 %] wire"
    assert table.rows == [["rocksdb_resp", "GET", "16 MiB", "4", "2.00 [1.95, 2.05]", shares]]
    assert layers_rows(layers(distinguishable=False), {}) is None
    assert layers_rows(layers(s_per_gb=None), {}) is None


def test_the_page_says_what_limits_a_store(tmp_path):
    page = Reader(page_of(tmp_path / "page", few_cells(), extra={"layers": layers()}))
    assert "layers" in page.ids
    assert "70 % [65 %, 75 %] device" in page.text


def test_the_stages_command_line_says_what_is_missing(tmp_path):
    with pytest.raises(UserError, match="--template"):
        command(make_page, "--out", tmp_path / "x.html")
