"""What pools keep: the rule of LMCache's server by hand, and both against what they stand for."""

from hypothesis import given
from hypothesis import strategies as st

from workflow.hyperkv.engines.replay.pools import LruPool, ServerPool
from workflow.hyperkv.engines.replay.request import VirtualClock


def keys_of(*numbers: int) -> list[bytes]:
    return [bytes([number]) for number in numbers]


def held(pool: LruPool) -> list[int]:
    return [number for number in range(256) if pool.holds(bytes([number]))]


def save(pool: LruPool, *numbers: int) -> None:
    pool.reserve(keys_of(*numbers))
    pool.admit(keys_of(*numbers))


def test_the_ideal_gives_room_at_once_and_the_last_chunk_of_a_prompt_goes_first():
    pool = LruPool(4)
    save(pool, 0, 1, 2)
    save(pool, 10, 11)
    assert held(pool) == [0, 1, 10, 11]
    pool.use(keys_of(0, 1))
    save(pool, 20)
    assert held(pool) == [0, 1, 10, 20]
    assert pool.leading(keys_of(0, 1, 2)) == 2


def test_a_server_gives_up_a_fifth_once_a_second_and_only_above_the_watermark():
    clock = VirtualClock()
    pool = ServerPool(10, clock)
    save(pool, *range(7))
    clock.now_s = 5.0
    assert held(pool) == list(range(7))
    assert pool.leading(keys_of(*range(7))) == 7
    save(pool, 7, 8)
    clock.now_s = 5.9
    assert pool.leading(keys_of(7, 8)) == 2
    assert len(held(pool)) == 9
    clock.now_s = 6.0
    pool.use([])
    assert held(pool) == [0, 1, 2, 3, 4, 5, 7, 8]  # one of nine, of the prompt used least recently the last
    clock.now_s = 7.0
    pool.use([])
    assert len(held(pool)) == 7  # eight of ten were the watermark
    clock.now_s = 99.0
    pool.use([])
    assert len(held(pool)) == 7


def test_a_save_without_room_for_all_of_it_saves_nothing_and_what_comes_takes_room_unread():
    pool = ServerPool(10, VirtualClock())
    pool.reserve(keys_of(*range(6)))
    assert held(pool) == []
    save(pool, 20, 21, 22, 23, 24)
    assert held(pool) == []
    save(pool, 20, 21, 22, 23)
    assert pool.admit(keys_of(*range(6))) == keys_of(*range(6))
    assert held(pool) == [*range(6), 20, 21, 22, 23]


def test_what_is_read_or_saved_or_held_stays():
    clock = VirtualClock()
    pool = ServerPool(10, clock)
    save(pool, *range(5))
    save(pool, *range(10, 14))
    pool.read(keys_of(0, 1, 2), 1.5)
    for _ in range(2):
        pool.hold(keys_of(3, 4))
    pool.let_go(keys_of(3, 4), 0.0)
    pool.reserve(keys_of(20))
    clock.now_s = 1.0
    pool.use([])
    assert held(pool) == [0, 1, 2, 3, 4, 10, 11]
    pool.admit(keys_of(20))
    assert held(pool)[-1] == 20
    clock.now_s = 2.0
    pool.let_go(keys_of(3, 4), 1.9)
    pool.use([])
    assert held(pool) == [0, 1, 2, 3, 10, 11, 20]


def test_what_was_held_when_the_server_looked_stayed_then():
    clock = VirtualClock()
    pool = ServerPool(10, clock)
    save(pool, *range(9))
    pool.hold(keys_of(*range(9)))
    clock.now_s = 2.0
    pool.let_go(keys_of(*range(9)), 1.5)
    assert held(pool) == list(range(9))
    pool.use([])
    assert held(pool) == list(range(8))


def test_what_a_store_has_is_loaded_where_there_is_room_and_is_not_kept():
    clock = VirtualClock()
    pool = ServerPool(10, clock)
    save(pool, *range(5))
    assert not pool.take(keys_of(*range(10, 16)))
    assert pool.take(keys_of(*range(10, 15)))
    clock.now_s = 0.2
    save(pool, 20)
    pool.taken_until(5, 0.5)
    save(pool, 20)
    assert held(pool) == list(range(5))
    clock.now_s = 0.5
    save(pool, 20)
    assert held(pool) == [0, 1, 2, 3, 4, 20]


def test_when_a_request_is_over_its_prompt_is_used_and_what_a_gate_left_unsaved_is_there():
    clock = VirtualClock()
    pool = ServerPool(10, clock)
    save(pool, 0, 1)
    pool.reserve(keys_of(2))
    save(pool, *range(10, 15))
    pool.done(keys_of(0, 1, 2))
    clock.now_s = 1.0
    pool.use([])
    assert held(pool) == [0, 1, 2, 10, 11, 12, 13]


def test_what_others_left_goes_first():
    clock = VirtualClock()
    pool = ServerPool(10, clock, left=8)
    save(pool, 0, 1)
    save(pool, 2)
    assert held(pool) == [0, 1]
    for clock.now_s in (1.0, 2.0, 3.0, 4.0):
        pool.use([])
    assert held(pool) == [0, 1]
    save(pool, 2)
    assert held(pool) == [0, 1, 2]


@given(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=8, unique=True), max_size=30))
def test_nothing_but_a_second_makes_room_in_a_server(saves):
    """Within one second all that was ever there still is, and it is never more than there is room for."""
    pool, before = ServerPool(20, VirtualClock()), set()
    for numbers in saves:
        save(pool, *numbers)
        assert before <= set(held(pool))
        before = set(held(pool))
        assert len(before) <= 20
