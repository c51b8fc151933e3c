"""perf's output in categories, on a recorded excerpt and on what it must not stumble over."""

from pathlib import Path

import pytest

from workflow.hyperkv.profile.perf_categories import CATEGORIES, category, samples, shares, user_only

EXCERPT = Path("tests/data/perf_script_excerpt.txt").read_text()
KERNEL, LIBC, KVROCKS = "[kernel.kallsyms]", "/usr/lib/x86_64-linux-gnu/libc.so.6", "/opt/kvrocks"


def test_the_excerpt_has_its_samples_in_the_categories_order():
    found = [category(sample.frames) for sample in samples(EXCERPT)]
    assert found == sorted(found, key=CATEGORIES.index)
    assert set(found) == set(CATEGORIES)
    assert min(map(found.count, CATEGORIES)) >= 2
    assert {sample.weight for sample in samples(EXCERPT)} == {500250}


def test_shares_sum_to_one_and_weigh_by_period():
    assert sum(shares(EXCERPT).values()) == pytest.approx(1)
    text = f"  3 cycles:\n\tff clear_page_erms ({KERNEL})\n\n  1 cycles:\n\tff tcp_ack ({KERNEL})\n"
    assert shares(text) == dict.fromkeys(CATEGORIES, 0) | {"memory_management": 0.75, "network": 0.25}


@pytest.mark.parametrize(
    ("event", "wanted"),
    [
        ("cpu-clock:ppp", False),
        ("cycles:u", True),
        ("cycles:Pu", True),
        ("cpu_core/cycles/P", False),
        ("cpu_core/cycles/Pu", True),
        ("cycles", False),
        ("cpu-clock", False),
    ],
)
def test_samples_without_the_kernel_are_noticed(event, wanted):
    assert user_only(f"   10 {event}: \n\tff main (/opt/kvrocks)\n") is wanted


@pytest.mark.parametrize("text", ["", "\n\n", "# a comment\n", "   500250 cpu-clock:ppp: \n\n"])
def test_without_a_sample_there_are_no_shares(text):
    assert shares(text) is None


@pytest.mark.parametrize(
    ("frames", "wanted"),
    [
        ([("_raw_spin_unlock", KERNEL), ("sock_def_readable", KERNEL), ("read", LIBC)], "network"),
        (
            [("rep_movs_alternative", KERNEL), ("_copy_to_iter", KERNEL), ("tcp_recvmsg", KERNEL)],
            "socket_copy",
        ),
        ([("rep_movs_alternative", KERNEL), ("_copy_to_iter", KERNEL), ("filemap_read", KERNEL)], "copying"),
        (
            [("clear_page_erms", KERNEL), ("asm_exc_page_fault", KERNEL), ("memcpy", LIBC)],
            "memory_management",
        ),
        ([("ext4_file_write_iter", KERNEL)], "file_and_block"),
        ([("update_curr", KERNEL), ("rocksdb::Get", KVROCKS)], "other_kernel"),
        ([("__memmove_avx_unaligned_erms", LIBC), ("rocksdb::Get", KVROCKS)], "copying"),
        ([("je_arena_malloc", KVROCKS)], "memory_management"),
        ([("_int_malloc", LIBC), ("x", KVROCKS)], "memory_management"),
        ([("__strlen_avx2", LIBC), ("rocksdb::DB::Get", KVROCKS)], "storage_engine"),
        ([("[unknown]", "/venv/rocksdict/rocksdict.abi3.so")], "storage_engine"),
        ([("evbuffer_add", KVROCKS)], "server"),
        ([("[unknown]", "[unknown]")], "server"),
    ],
)
def test_the_innermost_known_frame_decides(frames, wanted):
    assert category(frames) == wanted
