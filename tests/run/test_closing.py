"""What a run says at its end is what it made of what was asked for."""

from workflow.hyperkv.run.closing import closing_lines

BUILD = ["results/build/kvrocks/kvrocks", "results/build/kvrocks/kvrocks.json"]


def test_a_single_target():
    assert closing_lines(["results/build/kvrocks-source.tar.gz", *BUILD], BUILD) == [
        "HyperKV is done. Made: results/build/kvrocks/kvrocks, results/build/kvrocks/kvrocks.json"
    ]


def test_a_whole_run_names_what_to_read_first():
    figures = [f"results/figures/{name}.{kind}" for name in "abcd" for kind in ("svg", "png")]
    made = ["results/answer.txt", "results/tables/cells.csv", *figures, "results/report/index.html"]
    assert closing_lines([*made, *made, *BUILD], made) == [
        "HyperKV is done. The answer: results/answer.txt; the page to read first: results/report/index.html",
        "Made besides: results/figures (8 files), results/tables/cells.csv",
    ]


def test_nothing_is_named_that_was_not_made():
    assert closing_lines([], BUILD) == ["HyperKV is done. Nothing had to be made."]
    asked = ["results/answer.txt", "results/tables/layers.csv"]
    assert closing_lines(["results/tables/layers.csv"], asked) == [
        "HyperKV is done. Made: results/tables/layers.csv"
    ]
