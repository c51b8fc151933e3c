"""The page of the price of a bit: its table is that of the kept records."""

from pathlib import Path

from workflow.hyperkv.predict.predict_formats import seconds_per_gb
from workflow.hyperkv.records.frames import read_jsonl
from workflow.hyperkv.tables.bits import quality

KEPT = max(Path("results/reference/bits").glob("*/records.jsonl"))


def row(found: dict) -> str:
    error = "" if found["error"] is None else f"{found['error']:.1%}"
    low, high = (found[f"perplexity_ratio_{end}"] - 1 for end in ("low", "high"))
    cells = [f"`{found['format']}`", f"{found['bytes_per_token']:,.0f}", f"{found['share']:.1%}", error, f"{found['agreement']:.1%}",
             f"{found['equal_tokens']:g} ({found['equal_tokens_least']})",
             f"{found['perplexity_ratio'] - 1:+.1%} ({low:+.1%} to {high:+.1%})"]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def test_the_pages_numbers_are_those_of_the_records():
    page = Path("docs/bits.md").read_text()
    records = {record["format"]: record for record in read_jsonl([KEPT])}
    asked = [record for record in records.values() if record["answers"]]
    assert len(asked) >= 8
    for record in asked:
        assert row(quality(record, records[record["control"]])) in page, record["format"]


def test_the_pages_seconds_are_those_of_a_gpu_box():
    page = Path("docs/bits.md").read_text()
    timed = [record for record in read_jsonl(sorted(KEPT.parent.glob("speed-*.jsonl"))) if record["encode_s"]]
    assert len(timed) == 7
    for record in timed:
        encode_s, decode_s = seconds_per_gb(record)
        assert f"| `{record['format']}` | {encode_s:.2f} | {decode_s:.2f} |" in page
