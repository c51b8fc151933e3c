"""What requests of any trace use again, against the chained keys of their tokens, one chunk at a time."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workloads.by_hand import held_and_written
from workflow.hyperkv.predict.lru import simulated_tier
from workflow.hyperkv.workloads.prefix_tree import as_they_are, request_order
from workflow.hyperkv.workloads.reuse import reuse_of
from workflow.hyperkv.workloads.trace import Requests
from workflow.hyperkv.workloads.trace_forms import Columns
from workflow.hyperkv.workloads.trace_forms.spans import chained

BLOCKS = [8, 16, 20]


@st.composite
def traces(draw) -> Requests:
    """Requests with one id per started or per whole block, with no ids for their ends, with ids behind others and twice."""
    size = draw(st.sampled_from(BLOCKS))
    few = st.integers(0, draw(st.sampled_from([0, 3, 40])))
    rows: list[tuple[list[int], int]] = []
    for _ in range(draw(st.integers(1, 12))):
        begun = list(draw(st.sampled_from(rows))[0]) if rows and draw(st.booleans()) else []
        ids = begun[: draw(st.integers(0, len(begun)))] + draw(st.lists(few, max_size=5))
        low = max(1, (len(ids) - 1) * size + 1)
        rows.append((ids, draw(st.integers(low, low + draw(st.sampled_from([0, size - 1, 3 * size]))))))
    counts = [len(ids) for ids, _ in rows]
    count = len(rows)
    columns = Columns(
        "mooncake",
        np.arange(count, dtype=float),
        np.array([length for _, length in rows]),
        np.array(draw(st.lists(st.integers(1, 30), min_size=count, max_size=count))),
        np.array([one for ids, _ in rows for one in ids], dtype=np.uint32),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        size,
    )
    return Requests(columns, draw(st.integers(0, 99)), 1 << 17)


@given(
    traces(),
    st.integers(1, 3),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from([1, 8, 16, 48]),
    st.one_of(st.none(), st.integers(0, 40)),
    st.sampled_from([1, 2]),
)
def test_hits_are_an_independent_count(requests, clients, active, decode, chunk, capacity, uses):
    order = request_order([1] * len(requests), clients, active)
    tier = simulated_tier(reuse_of(requests, order, decode), chunk, capacity, uses)
    expected = held_and_written(requests, order, decode, chunk, capacity, uses)
    assert list(zip(tier.held.tolist(), tier.written.tolist(), strict=True)) == expected


@given(traces(), st.booleans())
def test_spans_are_those_of_the_tree_of_prefixes(requests, decode):
    order = as_they_are(requests)
    fast, slow = reuse_of(requests, order, decode), reuse_of(list(requests), order, decode)
    assert fast.saved.tolist() == slow.saved.tolist()
    assert fast.reused.tolist() == slow.reused.tolist()
    names = ("request", "last", "begin", "end")
    assert [getattr(fast, name).tolist() for name in names] == [
        getattr(slow, name).tolist() for name in names
    ]


@given(traces())
def test_chained_ids_name_whole_prefixes(requests):
    ids, starts = requests.columns.ids, requests.columns.starts
    nodes, known = chained(ids, starts), {}
    for start, end in pairwise(starts.tolist()):
        for at in range(start, end):
            prefix = tuple(ids[start : at + 1].tolist())
            assert known.setdefault(int(nodes[at]), prefix) == prefix
    assert len(set(known.values())) == len(known)


@pytest.mark.parametrize("ids", [[3, 4, 5, 3, 4, 9], [7, 8, 9, 1, 2, 3]])
def test_ids_that_are_chained_stay_as_they_are(ids):
    found = np.array(ids, dtype=np.uint32)
    assert chained(found, np.array([0, 3, 6])) is found
