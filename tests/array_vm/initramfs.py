"""A root file system from unpacked Debian packages: chosen programs, what they need, and a cpio archive of it all."""

import lzma
import os
import stat
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

_MERGED = ("bin", "sbin", "lib", "lib64")
_PROGRAMS = ("bin", "sbin", "usr/bin", "usr/sbin")
_LIBRARIES = (
    *("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "usr/lib64"),
    *("lib/systemd", "usr/lib/systemd", "usr/lib/x86_64-linux-gnu/systemd"),
)


class Archive:
    """A cpio archive (newc) in memory; needs no root, since device nodes are just entries. The first of a name stays."""

    def __init__(self):
        self.names: set[str] = set()
        self._data = bytearray()

    def folder(self, name: str) -> None:
        self._add(name, stat.S_IFDIR | 0o755)

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        self._add(name, stat.S_IFREG | mode, data)

    def link(self, name: str, target: str) -> None:
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name: str, major: int, minor: int) -> None:
        self._add(name, stat.S_IFCHR | 0o600, b"", (major, minor))

    def finished(self) -> bytes:
        """The whole archive; the kernel unpacks several of them one after the other."""
        self._entry("TRAILER!!!", 0, b"", (0, 0))
        return bytes(self._data + b"\0" * (-len(self._data) % 512))

    def _add(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        name = name.strip("/")
        if name in self.names:
            return
        parent = os.path.dirname(name)
        if parent:
            self.folder(parent)
        self.names.add(name)
        self._entry(name, mode, data, device)

    def _entry(self, name: str, mode: int, data: bytes, device: tuple[int, int]) -> None:
        encoded = name.encode() + b"\0"
        fields = (len(self.names), mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        for part in (b"070701" + b"".join(b"%08X" % field for field in fields) + encoded, data):
            self._data += part + b"\0" * (-(len(self._data) + len(part)) % 4)


class RootFs:
    """Files of unpacked packages in an archive with merged /usr, each program with the libraries it is linked to."""

    def __init__(self, tree: Path, archive: Archive):
        self._tree = tree
        self._archive = archive
        self.missing: set[str] = set()
        for name in _MERGED:
            archive.folder(f"usr/{name}")
            archive.link(name, f"usr/{name}")

    def programs(self, names: Iterable[str]) -> None:
        for name in names:
            self._first(name, _PROGRAMS)

    def folder(self, name: str, skip: Callable[[str], bool] = lambda path: False) -> None:
        """Everything below a folder of the packages."""
        for path in sorted((self._tree / name).rglob("*")):
            if (path.is_symlink() or path.is_file()) and not skip(str(path)):
                self._add(path)

    def _first(self, name: str, folders: Iterable[str]) -> None:
        for folder in folders:
            path = self._tree / folder / name
            if path.is_file() or path.is_symlink():
                self._add(path)
                return
        self.missing.add(name)

    def _add(self, path: Path) -> None:
        name = str(path.relative_to(self._tree))
        name = f"usr/{name}" if name.split("/")[0] in _MERGED else name
        if name in self._archive.names:
            return
        if path.is_symlink():
            target = os.readlink(path)
            self._archive.link(name, target)
            leads_to = self._tree / target.lstrip("/") if target.startswith("/") else path.parent / target
            leads_to = Path(os.path.normpath(leads_to))
            if leads_to.is_file():
                self._add(leads_to)
            return
        data = path.read_bytes()
        self._archive.file(name, data, path.stat().st_mode & 0o7777)
        libraries, loader = linked(data)
        for library in (*libraries, *([os.path.basename(loader)] if loader else [])):
            self._first(library, _LIBRARIES)
        if loader:
            self._archive.link(
                f"usr/lib64/{os.path.basename(loader)}", f"../lib/x86_64-linux-gnu/{os.path.basename(loader)}"
            )


def linked(data: bytes) -> tuple[list[str], str | None]:
    """The libraries (DT_NEEDED) and the loader that a 64-bit ELF file names; none for another file."""
    if data[:5] != b"\x7fELF\x02":
        return [], None
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    loads, dynamic, loader = [], None, None
    for index in range(count):
        kind, _, offset, address, _, length, _, _ = struct.unpack_from(
            "<IIQQQQQQ", data, table + index * size
        )
        if kind == 1:
            loads.append((address, offset, length))
        elif kind == 2:
            dynamic = (offset, length)
        elif kind == 3:
            loader = data[offset : offset + length].rstrip(b"\0").decode()
    if dynamic is None:
        return [], loader
    needed, strings = [], 0
    for place in range(dynamic[0], sum(dynamic), 16):
        tag, value = struct.unpack_from("<QQ", data, place)
        if tag == 0:
            break
        if tag == 1:
            needed.append(value)
        elif tag == 5:
            strings = value
    base = next(
        offset + strings - address
        for address, offset, length in loads
        if address <= strings < address + length
    )
    return [data[base + name : data.index(b"\0", base + name)].decode() for name in needed], loader


def kernel_modules(source: Path, target: Path, wanted: Iterable[str]) -> None:
    """Copy modules and what they depend on, and the lists that depmod needs. source: lib/modules/VERSION."""
    files = {path.name.split(".")[0].replace("-", "_"): path for path in source.rglob("*.ko*")}
    copied, pending = set(), [name.replace("-", "_") for name in wanted]
    while pending:
        name = pending.pop()
        if name in copied or name not in files:
            continue
        copied.add(name)
        place = target / files[name].relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(files[name].read_bytes())
        data = place.read_bytes()
        pending += _needed(lzma.decompress(data) if place.suffix == ".xz" else data)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        (target / name).write_bytes((source / name).read_bytes())


def _needed(module: bytes) -> list[str]:
    """The modules that an uncompressed module's modinfo names."""
    found = []
    for key in (b"\0depends=", b"\0softdep=pre: "):
        start = module.find(key)
        if start >= 0:
            start += len(key)
            text = module[start : module.index(b"\0", start)].decode()
            found += [name.replace("-", "_") for name in text.replace(",", " ").split()]
    return found


def uncompressed_kernel(image: bytes, unpack: Callable[[list[str], bytes], bytes]) -> bytes:
    """vmlinux out of a bzImage (Documentation/arch/x86/boot.rst: payload_offset, payload_length), which boots faster.

    unpack: runs lz4, xz or zstd on the payload. Raises RuntimeError when what comes out is no kernel.
    """
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = ((image[0x1F1] or 4) + 1) * 512 + offset
    payload = image[start : start + length][:-4]
    tools = {b"\x02\x21\x4c\x18": ["lz4", "-dc"], b"\xfd7zX": ["xz", "-dc", "--single-stream"]}
    tool = tools.get(payload[:4], ["zstd", "-dc"])
    kernel = unpack(tool, payload)
    if kernel[:4] != b"\x7fELF":
        raise RuntimeError(f"{tool[0]} cannot unpack the kernel")
    return kernel
