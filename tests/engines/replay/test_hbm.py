"""HbmCache: worked examples, then random use against a plain model of it."""

from hypothesis import given
from hypothesis import strategies as st

from workflow.hyperkv.engines.replay.hbm import HbmCache


def serve(cache, keys, total=None):
    allocation = cache.allocate(keys, len(keys), total or len(keys))
    assert allocation is not None
    cache.commit(allocation, len(keys))
    cache.release(allocation)
    return allocation.hit_blocks


def test_the_tail_of_the_oldest_context_is_evicted_first():
    cache = HbmCache(6)
    serve(cache, ["a1", "a2", "a3"])
    serve(cache, ["b1", "b2", "b3"])
    serve(cache, ["c1"])
    probe = cache.allocate(["a1", "a2", "a3"], 3, 3)
    assert probe.hit_blocks == 2
    assert cache.allocate(["b1", "b2", "b3"], 3, 3).hit_blocks == 2


def test_use_renews_a_context():
    cache = HbmCache(4)
    serve(cache, ["a1", "a2"])
    serve(cache, ["b1", "b2"])
    serve(cache, ["a1", "a2"])
    serve(cache, ["c1", "c2"])
    assert serve(cache, ["a1", "a2"]) == 2
    assert serve(cache, ["b1", "b2"]) == 0


def test_shared_blocks_stay_until_the_last_holder_lets_go():
    cache = HbmCache(3)
    first = cache.allocate(["a", "b"], 2, 2)
    cache.commit(first, 2)
    second = cache.allocate(["a", "b"], 2, 2)
    assert second.hit_blocks == 2
    cache.release(first)
    assert cache.allocate(["x", "y"], 2, 2) is None
    cache.release(first)
    assert cache.allocate(["x", "y"], 2, 2) is None
    cache.release(second)
    assert cache.allocate(["x", "y"], 2, 2) is not None


def test_idle_blocks_that_are_hit_are_no_room():
    cache = HbmCache(4)
    serve(cache, ["a1", "a2"])
    assert cache.allocate(["a1", "a2"], 2, 5) is None
    assert cache.allocate(["a1", "a2"], 2, 4).hit_blocks == 2


def test_without_prefix_caching_nothing_is_kept():
    cache = HbmCache(2, prefix_caching=False)
    assert serve(cache, ["a", "b"]) == 0
    assert serve(cache, ["a", "b"]) == 0


operations = st.lists(
    st.tuples(st.sampled_from("acr"), st.integers(0, 2), st.integers(1, 5), st.integers(0, 2)), max_size=40
)


@given(st.integers(5, 12), st.booleans(), operations)
def test_random_use_matches_the_model(capacity, caching, steps):
    """Model: live allocations with the keys they hold, and idle keys in order of eviction."""
    cache, idle, live = HbmCache(capacity, caching), [], []
    for kind, tree, length, extra in steps:
        held = {key for _, own, _ in live for key in own}
        used = len(held) + sum(anonymous for _, _, anonymous in live)
        assert used + len(idle) <= capacity
        if kind == "a":
            keys = [(tree, i) for i in range(length)]
            hits = next((i for i, key in enumerate(keys) if key not in held and key not in idle), length)
            total = length + extra
            rest = [key for key in idle if key not in keys[:hits]]
            room = capacity - len(held | set(keys[:hits])) - (used - len(held))
            allocation = cache.allocate(keys, length, total)
            assert (allocation is None) == (total - hits > room)
            if allocation is None:
                continue
            assert allocation.hit_blocks == hits
            evicted = max(0, total - hits - (room - len(rest)))
            idle = rest[evicted:]
            live.append([allocation, keys[:hits], total - hits])
        elif live:
            item = live[tree % len(live)]
            allocation, own, _ = item
            if kind == "c":
                upto = min(length, len(allocation.keys))
                fresh = [k for k in allocation.keys[allocation.committed : upto] if k not in held | set(idle)]
                cache.commit(allocation, upto)
                if caching:
                    item[1], item[2] = own + fresh, item[2] - len(fresh)
            else:
                cache.release(allocation)
                live.remove(item)
                others = {key for _, kept, _ in live for key in kept}
                idle += [key for key in reversed(own) if key not in others]
    for allocation, _, _ in live:
        cache.release(allocation)
        cache.release(allocation)
    assert cache.allocate([], 0, capacity) is not None
    assert cache.allocate([], 0, 1) is None
