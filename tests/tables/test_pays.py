"""Table pays by hand: what is compared, which store stands for a tier, when it is undecided, and the answer's words."""

import pandas as pd
import pytest

from tests.tables.pays_rows import GB, pair, stores_of, table_of
from workflow.hyperkv.tables.methods.pays_text import answer, caveat, pays_text
from workflow.hyperkv.tables.pays import pays_table


def test_a_tier_is_its_fastest_store_and_dram_is_what_a_hit_takes_without_one():
    rows = table_of([pair()]).set_index("tier")
    assert dict(rows["scenario"].dropna()) == {"ram_over_resp": "valkey", "ssd": "files"}
    assert list(rows["load_s"]) == pytest.approx([0.1, 0.3, 0.6])
    assert list(rows["speedup"]) == pytest.approx([10, 1 / 0.3, 1 / 0.6])
    assert rows.loc["ssd", "speedup_low"] == pytest.approx(1 / (1 / 1.8 + 0.1))
    assert set(rows["verdict"]) == {"pays"}


@pytest.mark.parametrize(
    ("ssd", "verdict"),
    [
        ((2.0, 1.8, 2.2), "pays"),
        ((1.2, 1.0, 1.3), "undecided"),
        ((0.9, 0.8, 1.0), "loses"),
        ((1.2, None, None), "pays"),
        ((1.0, None, None), "loses"),
    ],
)
def test_the_interval_decides_and_without_one_the_value(ssd, verdict):
    assert table_of([pair()], ssd=ssd).set_index("tier").loc["ssd", "verdict"] == verdict


def test_other_prompts_are_left_out_and_many_gpus_are_said():
    rows = table_of([pair(tokens=4096), pair(tokens=32768, gpus_for_weights=16)])
    assert set(rows["prompt_tokens"]) == {32768}
    assert set(rows["verdict"]) == {"too many GPUs"}
    assert "16 GPUs" in pays_text(rows)


def test_without_a_measured_store_only_dram_is_compared_and_said_so():
    table = pays_table(pd.DataFrame([pair()]), pd.DataFrame(stores_of(pair())).head(0))
    assert list(table["tier"]) == ["dram"]
    assert answer(table)[0] == "The profile measured no SSD and no RAM over RESP (profile.scenarios)."
    assert pays_text(table.head(0)) == ""


@pytest.mark.parametrize(
    ("scenario", "told", "missing"),
    [
        ("valkey", "from RAM over RESP (valkey, 5 GB/s)", "SSD"),
        ("files", "from SSD (files, 2 GB/s)", "RAM over RESP"),
    ],
)
def test_a_tier_that_the_profile_has_not_is_said_with_its_key(scenario, told, missing):
    stores = pd.DataFrame(stores_of(pair()))
    first = answer(pays_table(pd.DataFrame([pair()]), stores[stores["scenario"] == scenario]))[0]
    assert f"computing it: {told} for 1 of 1 pairs" in first
    assert first.endswith(f"; the profile measured no {missing} (profile.scenarios).")


def test_the_answer_counts_pairs_per_format_and_names_the_most_that_is_gained():
    pairs = [
        pair(),
        pair(gpu="NVIDIA L4 24GB (derived)", prefill_s=2.0),
        pair(gpu="NVIDIA B200 180GB (derived)", prefill_s=0.2),
    ]
    pairs += [of | {"kv_dtype": "fp8", "kv_bytes": GB / 2} for of in pairs]
    first, second = answer(table_of(pairs))
    assert (
        "from SSD (files, 2 GB/s) for 2 of 3 pairs of model and GPU with KV in bfloat16, 2 of 3 with KV in fp8;"
        in first
    )
    assert "from RAM over RESP (valkey, 5 GB/s) for 2 of 3 pairs" in first
    assert (
        second
        == "SSD gains most for m on L4 24GB with KV in fp8, 5.7 times (5.3 to 6.1); 0 of these 6 are undecided."
    )
    assert "step times of all GPUs but H100 80GB are derived" in caveat(table_of(pairs))


def test_the_grid_names_the_cheapest_tier_that_pays():
    rows = table_of(
        [pair(), pair(gpu="NVIDIA B200 180GB (derived)", prefill_s=0.4), pair("n", prefill_s=0.05)]
    )
    lines = pays_text(rows).splitlines()
    assert next(line for line in lines if line.startswith("m ")).split() == ["m", "SSD", "1.7", "RAM", "1.3"]
    assert next(line for line in lines if line.startswith("n ")).split() == ["n", "-"]
