"""Where a cluster keeps a key, and how a chunk's stripes are spread over it."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from workflow.plugin.lmcache_striped.slots import SLOTS, slot_of, spread_key

BRACED = st.lists(st.sampled_from([b"{", b"}", b"a", b"bc"])).map(b"".join)
KEYS = st.binary(max_size=40) | BRACED


@given(KEYS)
def test_a_slot_is_that_of_redis_py(key):
    assert slot_of(key) == key_slot(key)


@given(KEYS, st.integers(0, 1 << 20))
def test_a_stripes_key_names_its_chunk_and_index(key, index):
    assert spread_key(key, index).startswith(b"%b#%d{" % (key.replace(b"{", b"%7B"), index))


@given(KEYS, st.sampled_from([1, 2, 4, 8, 16]), st.integers(1, 8))
def test_as_many_stripes_of_a_chunk_on_each_of_equal_nodes(key, nodes, each):
    slots = [slot_of(spread_key(key, index)) for index in range(1, nodes * each + 1)]
    counts = Counter((slot - slots[0]) % SLOTS * nodes // SLOTS for slot in slots)
    assert set(counts.values()) == {each}


@given(KEYS, st.integers(1, 12))
def test_no_node_has_many_more_than_its_share(key, nodes):
    stripes = 12 * nodes
    counts = Counter(slot_of(spread_key(key, index)) * nodes // SLOTS for index in range(1, stripes + 1))
    assert max(counts.values()) <= 12 + 6
