"""From `perf script` to where a server's CPU went: pure functions over its text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CATEGORIES = (
    "memory_management",
    "copying",
    "socket_copy",
    "network",
    "file_and_block",
    "storage_engine",
    "server",
    "other_kernel",
)

_KERNEL = re.compile(
    r"^\[(kernel|guest\.kernel|unknown kernel)|\.ko(\.\w+)?$|^\[(?!unknown|vdso|heap|stack|anon)\w+\]$"
)
_FRAME = re.compile(r"^\s+[0-9a-f]+\s+(.*?)(?:\+0x[0-9a-f]+)?\s+\((.*)\)\s*$")

_KERNEL_COPY = re.compile(
    r"copy_to_iter|copy_from_iter|copy_to_user|copy_from_user|copy_user_|rep_movs|copyin|copyout|memcpy|"
    r"copy_(page|folio)_(to|from)_iter|copy_mc"
)
_SOCKET = re.compile(
    r"^(__)?(tcp_|ip_|ip6_|sk_|skb_|__skb|sock_|__sock|inet_|unix_|net_|__net|dev_|__dev_|loopback|"
    r"netif_|__netif|process_backlog|napi_|nf_|ipv4|validate_xmit|qdisc|pfifo|sch_|kfree_skb|consume_skb|"
    r"alloc_skb|__alloc_skb|release_sock|lock_sock|ep_poll|ep_send|do_epoll|eth_)|sendmsg|recvmsg|sendto|recvfrom|enter_from_sock"
)
_MEMORY_KERNEL = re.compile(
    r"page_fault|clear_page|clear_huge|clear_user|handle_mm|do_anonymous|alloc_pages|__alloc_frozen|get_page_from_freelist|"
    r"free_unref|free_pages|folios?_put|folio_(add|batch|alloc)|lru_|zap_|unmap_|mmap|munmap|madvise|mprotect|tlb_|flush_tlb|"
    r"vma|brk|charge_|uncharge|rmqueue|prep_new_page|khugepaged|mas_|exit_mm|swap_cache|mm_|pte_|pmd_"
)
_FILES_KERNEL = re.compile(
    r"^(__)?(ext4|xfs|btrfs|shmem|filemap|generic_file|generic_perform|iomap|dio_|bio_|blk_|"
    r"submit_bio|virtio_blk|virtblk|nvme|jbd2|writeback|fsync|do_fsync|file_|page_cache|mpage|fuse|overlay|ovl_|"
    r"do_sys_open|do_unlink|fault_in_iov|invalidate_|truncate_|balance_dirty)"
)
_MEMORY_USER = re.compile(
    r"^(je_|_?rallocx|_?mallocx|arena_|tcache_|extent_|pac_|pages_|hpa_|edata_|ecache_|malloc|free$|_?int_(malloc|free)|"
    r"_int_|calloc|cfree|realloc|posix_memalign|aligned_alloc|operator (new|delete)|sysmalloc|systrim|madvise|m(un)?map|"
    r"__GI___(mmap|munmap|madvise|libc_(malloc|free))|__libc_(malloc|calloc|free|realloc)|zmalloc|zfree|valkey_(malloc|free))"
)
_COPY_USER = re.compile(r"mem(move|cpy|set)|__memmove|bcopy")
_ENGINE_USER = re.compile(
    r"rocksdb|crc32|XXH|ZSTD|LZ4|[Ss]nappy|deflate|inflate|MemTable|SkipList|BlobFile|BlockBased"
)
_ENGINE_DSO = re.compile(r"rocksdict|librocksdb|libzstd|liblz4|libsnappy")
_LIBC = re.compile(r"/(libc|libpthread|ld-linux)[.\-]|vdso")


@dataclass(frozen=True)
class Sample:
    """One sample: its weight (the event's period) and its frames, the innermost first, as (symbol, dso)."""

    weight: int
    frames: tuple[tuple[str, str], ...]


def samples(text: str) -> Iterator[Sample]:
    """The samples of `perf script -F period,event,ip,sym,dso`, in order. Lines that are not understood are left out."""
    weight, frames = None, []
    for line in [*text.splitlines(), ""]:
        if frame := _FRAME.match(line):
            frames.append((frame[1], frame[2]))
        elif found := re.match(r"^\s*(\d+)\s+[\w:\-/]+:\s*$", line):
            if weight is not None and frames:
                yield Sample(weight, tuple(frames))
            weight, frames = int(found[1]), []
        elif not line.strip():
            if weight is not None and frames:
                yield Sample(weight, tuple(frames))
            weight, frames = None, []


def user_only(text: str) -> bool:
    """Whether perf left the kernel out, as it does by itself for a user who may not sample it: events end in `:u`."""
    found = re.search(r"^\s*\d+\s+[\w:\-/]+?(?:[:/]([A-Za-z]*))?:\s*$", text, re.MULTILINE)
    return found is not None and "u" in (found[1] or "")


def shares(text: str) -> dict[str, float] | None:
    """Each category's share of the sampled time, in sum 1; None without a sample."""
    found = dict.fromkeys(CATEGORIES, 0)
    for sample in samples(text):
        found[category(sample.frames)] += sample.weight
    total = sum(found.values())
    return {name: weight / total for name, weight in found.items()} if total else None


def category(frames: Sequence[tuple[str, str]]) -> str:
    """Where a sample belongs: the innermost frame that some category knows decides.

    In the kernel only the kernel's frames are asked: what none of them tells is other_kernel. A copy in the kernel is
    the socket's when a frame around it is.
    """
    kernel = [symbol for symbol, dso in frames if _KERNEL.search(dso)]
    if kernel and _KERNEL.search(frames[0][1]):
        return _kernel_category(kernel)
    user = [(symbol, dso) for symbol, dso in frames if not _KERNEL.search(dso)]
    for symbol, dso in user:
        if _COPY_USER.search(symbol):
            return "copying"
        if _MEMORY_USER.search(symbol):
            return "memory_management"
        if _ENGINE_USER.search(symbol) or _ENGINE_DSO.search(dso):
            return "storage_engine"
        if not _LIBC.search(dso) and symbol != "[unknown]":
            return "server"
    return "server"


def _kernel_category(symbols: Sequence[str]) -> str:
    for index, symbol in enumerate(symbols):
        if _KERNEL_COPY.search(symbol):
            around = symbols[index + 1 :]
            return "socket_copy" if any(_SOCKET.search(name) for name in around) else "copying"
        if _MEMORY_KERNEL.search(symbol):
            return "memory_management"
        if _FILES_KERNEL.search(symbol):
            return "file_and_block"
        if _SOCKET.search(symbol):
            return "network"
    return "other_kernel"
