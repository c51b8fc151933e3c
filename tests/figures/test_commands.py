"""Every figure by its command: the same bytes for the same tables, another picture for others."""

import json
import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from tests.figures import made
from tests.helpers import command
from tests.record_factory import rungs
from tests.tables.pays_rows import pair, table_of
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.figures import looks
from workflow.hyperkv.report.make_page import FIGURES
from workflow.hyperkv.stores import registry
from workflow.hyperkv.tables.layers import layers_table

SHOWN_PIXELS = 1140  # of a figure's width in a window of 1,200
SPEC = ["--spec", json.dumps({"chunk_tokens": 64})]
BREAK_EVEN = made.break_even_rows()
GIVEN = {
    "tier_tradeoff": ([made.scenario_rows()], SPEC),
    "transport_medium": ([made.scenario_rows()], SPEC),
    "cost": ([made.cost_rows(), made.sensitivity_rows()], SPEC),
    "chunk": ([made.scenario_rows()], []),
    "stores": ([made.store_rows(), made.limit_rows()], []),
    "layers": ([layers_table(rungs())], []),
    "latency": ([made.latency_rows()], []),
    "hit_rate": ([made.hit_rate_rows(), made.cell_rows()], []),
    "break_even": ([BREAK_EVEN, made.placed_rows(BREAK_EVEN)], []),
    "pays": ([table_of([pair(), pair("n", prefill_s=0.05)])], []),
    "ladder": ([made.ladder_rows()], []),
    "array": ([made.array_rows()], []),
    "sharing": ([made.sharing_rows()], SPEC),
    "before_after": ([made.ladder_rows()], []),
    "bits": ([made.bits_rows()], []),
}


def draw(folder: Path, name: str, tables=None) -> tuple[bytes, bytes]:
    """Run a figure's command on tables written as CSV files; the bytes of its SVG and its PNG."""
    folder.mkdir()
    given, more = GIVEN[name]
    files = [folder / f"{number}.csv" for number in range(len(given))]
    for table, file in zip(tables or given, files, strict=True):
        table.to_csv(file, index=False)
    made_files = [folder / "f.svg", folder / "f.png"]
    options = ["--tables", *files, *more, "--svg", made_files[0], "--png", made_files[1]]
    with plt.rc_context():
        command(import_module(f"workflow.hyperkv.figures.{name}"), *options)
    return made_files[0].read_bytes(), made_files[1].read_bytes()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Callable[[str], tuple[bytes, bytes]]:
    """Draws a figure of its own tables, once."""
    looks.know(registry.looks())
    return cache(lambda name: draw(tmp_path_factory.mktemp("drawn") / name, name))


@pytest.mark.parametrize("name", GIVEN)
def test_the_same_tables_give_the_same_files_and_others_another_picture(drawn, tmp_path, name):
    svg, png = drawn(name)
    assert svg.rstrip().endswith(b"</svg>")
    assert png.startswith(b"\x89PNG")
    assert draw(tmp_path / "2", name) == (svg, png)
    first, *others = GIVEN[name][0]
    column = (
        first.select_dtypes("float")
        .filter(regex=r"^(rps_per_gpu|gbps|s_per_gb|ttft_s|hit_rate|prefill_s|speedup)$|^usd")
        .columns
    )
    for changed in column:
        first = first.assign(**{changed: first[changed] * (1 + first.index / 50)})
    assert draw(tmp_path / "3", name, [first, *others])[0] != svg


@pytest.mark.parametrize("name", sorted({*GIVEN} & {*FIGURES}))
def test_letters_are_11_pixels_high_on_the_page(drawn, name):
    svg = drawn(name)[0].decode()
    width = float(re.search(r'width="([\d.]+)pt"', svg)[1])
    sizes = {100 * float(scale) for scale in re.findall(r"scale\((0\.\d+) -0", svg)}
    assert min(sizes) * SHOWN_PIXELS / width >= 11


def test_rows_of_different_machines_are_said_below_the_figure(tmp_path):
    rows = made.latency_rows()
    rows["hardware"] = ["4 x CPU, 8 GiB" if name == "none" else "2 x CPU, 4 GiB" for name in rows["scenario"]]
    svg, _ = draw(tmp_path / "1", "latency", [rows])
    assert b"Not alike: measured on 2 different machines." in svg


def test_a_table_that_is_none_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("")
    options = ["--tables", tmp_path / "a.csv", "--svg", tmp_path / "f.svg", "--png", tmp_path / "f.png"]
    with pytest.raises(UserError, match=r"a\.csv: not a table"):
        command(import_module("workflow.hyperkv.figures.chunk"), *options)
