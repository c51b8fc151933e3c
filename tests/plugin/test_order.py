"""The order of use: an ideal LRU, whatever happens, and found again from any beginning of its records."""

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.plugin.lmcache_striped.order import Entry, Order, merged, told_by
from workflow.plugin.lmcache_striped.stripes import HEAD_BYTES

KEYS = [f"model@{number}".encode() for number in range(12)]
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("save"), st.sampled_from(KEYS), st.integers(1, 5000)),
        st.tuples(st.just("use"), st.sampled_from(KEYS), st.none()),
        st.tuples(st.just("delete"), st.sampled_from(KEYS), st.none()),
    ),
    max_size=60,
)


class Ideal:
    """The least recently used first: key -> bytes."""

    def __init__(self):
        self.chunks: OrderedDict[bytes, int] = OrderedDict()

    def do(self, change) -> None:
        what, key, size = change
        old = self.chunks.pop(key, None)
        if what == "save":
            self.chunks[key] = size
        elif what == "use" and old is not None:
            self.chunks[key] = old


def do(order: Order, change) -> None:
    what, key, size = change
    if what == "save":
        order.save(key, size, 1 + size // 1000)
    else:
        getattr(order, what)(key)


def told(order: Order) -> list[tuple[bytes, int]]:
    return [(entry.key, entry.chunk_bytes) for entry in order]


@given(changes=CHANGES, room=st.integers(0, 20_000))
def test_what_goes_first_is_what_an_ideal_lru_lets_go(changes, room):
    order, ideal = Order(), Ideal()
    for change in changes:
        do(order, change)
        ideal.do(change)
    assert told(order) == list(ideal.chunks.items())
    assert order.used_bytes == sum(entry.stored_bytes for entry in order)
    victims = order.oldest(room)
    assert [entry.key for entry in victims] == list(ideal.chunks)[: len(victims)]
    assert sum(entry.stored_bytes for entry in victims[:-1]) < max(room, 1)
    assert len(victims) == len(order) or sum(entry.stored_bytes for entry in victims) >= room


@given(
    changes=CHANGES,
    taken=st.sets(st.integers(0, 59)),
    snapshot=st.none() | st.integers(0, 59),
    lost=st.integers(0, 60),
    part=st.integers(1, 300),
)
def test_after_a_crash_the_order_is_that_of_the_last_records_that_are_there(
    changes, taken, snapshot, lost, part
):
    """Records are taken after some changes, a snapshot is made once, and a crash loses the last `lost` texts."""
    order, ideal, states, texts = Order(), Ideal(), [[]], []
    for number, change in enumerate(changes):
        do(order, change)
        ideal.do(change)
        if number == snapshot:
            texts = [(text, None) for text in order.snapshot(part)]
            states = [list(ideal.chunks.items())]
        elif number in taken:
            texts.append((order.take(), list(ideal.chunks.items())))
    logged = [(text, state) for text, state in texts if state is not None]
    kept = logged[: max(0, len(logged) - lost)]
    whole = [text for text, state in texts if state is None]
    found = merged([told_by([*whole, *(text for text, _ in kept)])])
    assert told(found) == (kept[-1][1] if kept else states[0])
    assert found.number <= order.number
    before = found.number
    found.save(b"next", 1, 1)
    assert found.number == before + 1


@given(changes=CHANGES, lost=st.tuples(st.integers(0, 60), st.integers(0, 60)))
def test_of_two_logs_a_chunk_that_either_has_is_there_with_its_last_use(changes, lost):
    order, texts = Order(), []
    for change in changes:
        do(order, change)
        texts.append(order.take())
    logs = [texts[: max(0, len(texts) - count)] for count in lost]
    both = merged([told_by(log) for log in logs])
    longer = merged([told_by(max(logs, key=len))])
    assert {entry.key for entry in longer} <= {entry.key for entry in both}
    assert [one.key for one in both if one.key in longer] == [one.key for one in longer]
    assert both.number == longer.number


def test_a_damaged_text_ends_what_is_told():
    order, texts = Order(), []
    for key in KEYS[:3]:
        order.save(key, 10, 1)
        texts.append(order.take())
    texts[1] = texts[1][:-1] + bytes([texts[1][-1] ^ 1])
    assert [entry.key for entry in merged([told_by(texts)])] == KEYS[:1]


@pytest.mark.parametrize("text", [b"", b"HKO1", bytes(40)])
def test_what_is_no_record_tells_nothing(text):
    assert told_by([text]).entries == {}


def test_what_is_being_saved_does_not_go():
    order = Order()
    for key in KEYS[:3]:
        order.save(key, 100, 1)
    assert [entry.key for entry in order.oldest(1, frozenset(KEYS[:2]))] == [KEYS[2]]


def test_stored_bytes_are_those_of_all_stripes():
    assert Entry(b"key", 1000, 3).stored_bytes == 1000 + 3 * (HEAD_BYTES + 3 + 64)
