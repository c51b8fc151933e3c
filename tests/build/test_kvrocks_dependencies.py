"""What Kvrocks's cmake files name is known before anything is compiled, and a folder of it can be filled and is checked."""

import hashlib
import os
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.kvrocks_tree import write_cmake, write_dependencies, write_tarball
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.build.cmake_files import Dependency, declared
from workflow.hyperkv.build.fetch_kvrocks_dependencies import dependencies_of, fetch_dependency
from workflow.hyperkv.build.kvrocks_dependencies import copied, locate, told_versions, unlike
from workflow.hyperkv.config.models.kvrocks import DEFAULTS

TABLE = Path("config/kvrocks/README.md")
SOURCE = os.environ.get("KVROCKS_SOURCE")


@pytest.fixture
def tree(tmp_path) -> Path:
    write_cmake(tmp_path / "tree")
    return tmp_path / "tree"


def rewrite(tree: Path, old: str, new: str) -> None:
    file = tree / "CMakeLists.txt"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def needed(tree: Path, **options: str) -> dict[str, bool | None]:
    return {item.name: item.needed for item in declared(tree, options or {"ENABLE_LUAJIT": "ON"})}


def test_what_the_cmake_files_name(tree, tmp_path):
    assert needed(tree) == {"jemalloc": True, "rocksdb": True, "luajit": True, "lua": False, "span": None}
    found = {item.name: item for item in declared(tree)}
    assert found["jemalloc"] == Dependency(
        "jemalloc", "5.3.0", "https://github.com/jemalloc/jemalloc/archive/5.3.0.zip", "SHA1=1be8"
    )
    assert found["luajit"].url.endswith(
        "/RocksLabs/LuaJIT/archive/c0a8e68325ec261a77bde1c8eabad398168ffe74.tar.gz"
    )
    assert found["span"] == Dependency(
        "span", "v0.11.0", "https://example.org/span.git", None, needed=None, archive=False
    )
    assert dependencies_of(write_tarball(tmp_path / "kvrocks.tar.gz")) == declared(tree)


@pytest.mark.parametrize(
    ("old", "new", "name", "expected"),
    [
        ('it" OFF)', 'it" ON)', "jemalloc", False),
        ("CMAKE_HOST_APPLE", "UNIX", "jemalloc", False),
        ("CMAKE_HOST_APPLE", "SOMETHING_FOUND", "jemalloc", None),
        ("CMAKE_HOST_APPLE", 'CMAKE_CXX_COMPILER_ID STREQUAL "Clang"', "jemalloc", None),
        ("(NOT DISABLE_JEMALLOC)", "(TRUE)", "jemalloc", True),
        ("if(SOME_PROBE_OF_CMAKE)", "if(OFF)", "span", False),
        ("if(SOME_PROBE_OF_CMAKE)", "if(ENABLE_LUAJIT)", "span", True),
        ("include(cmake/rocksdb.cmake)", "INCLUDE ( cmake/rocksdb.cmake )", "rocksdb", True),
    ],
)
def test_conditions(tree, old, new, name, expected):
    rewrite(tree, old, new)
    assert needed(tree)[name] is expected


def test_an_option_of_the_build_wins(tree):
    assert needed(tree, ENABLE_LUAJIT="OFF")["lua"] is True
    assert needed(tree, ENABLE_LUAJIT="OFF")["luajit"] is False
    assert needed(tree, DISABLE_JEMALLOC="1", ENABLE_LUAJIT="ON")["jemalloc"] is False


def test_a_plain_url(tree):
    text = 'FetchContent_Declare(rocksdb URL "https://example.org/rocksdb-9.7.2.tar.gz"\n URL_HASH SHA256=ab12 # why\n)'
    (tree / "cmake" / "rocksdb.cmake").write_text(text)
    found = {item.name: item for item in declared(tree)}["rocksdb"]
    assert (found.version, found.url, found.digest) == (
        "9.7.2",
        "https://example.org/rocksdb-9.7.2.tar.gz",
        "SHA256=ab12",
    )


def test_no_cmake_files(tmp_path):
    assert declared(tmp_path) == []
    found = locate(str(write_dependencies(tmp_path / "deps")), [])
    assert sorted(found) == ["jemalloc", "luajit", "rocksdb"]


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_dependencies(name, tree, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        UserError, match=r"kvrocks.deps_dir: .* has no folders.*rocksdb v9\.6\.1 \(https"
    ) as caught:
        locate(str(tmp_path / name), declared(tree))
    assert "make kvrocks-deps" in str(caught.value)
    assert " lua " not in str(caught.value)


def test_what_is_missing_is_named_at_once_with_what_may_be_meant(tree, tmp_path):
    deps = tmp_path / "deps"
    (deps / "rocksdb" / "rocksdb-9.6.1").mkdir(parents=True)
    (deps / "rocksdb" / "rocksdb-9.6.1" / "README").touch()
    (deps / "jemalloc-5.3.0").mkdir()
    (deps / "LuaJIT-c0a8e68.tar.gz").touch()
    with pytest.raises(UserError, match="lacks 3 of the 3 dependencies") as caught:
        locate(str(deps), declared(tree))
    message = str(caught.value)
    assert "\n" not in message
    assert "rocksdb holds only the folder rocksdb-9.6.1, whose contents belong into rocksdb" in message
    assert "jemalloc-5.3.0 is there, call it jemalloc" in message
    assert "LuaJIT-c0a8e68.tar.gz is there, unpack it as luajit" in message


def test_what_is_left_open_is_taken_when_it_is_there_and_the_rest_left_alone(tree, tmp_path):
    names = ("rocksdb", "jemalloc", "luajit", "lua", "gdb")
    deps = write_dependencies(tmp_path / "deps", names)
    assert sorted(locate(str(deps), declared(tree))) == ["jemalloc", "luajit", "rocksdb"]
    write_dependencies(deps, ("span",))
    assert sorted(locate(str(deps), declared(tree))) == ["jemalloc", "luajit", "rocksdb", "span"]


def test_copies_are_writable_and_keep_links_times_and_execute_bits(tmp_path):
    deps = write_dependencies(tmp_path / "deps")
    script = deps / "jemalloc" / "configure"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o555)
    os.utime(script, (1, 1))
    (deps / "jemalloc" / "link").symlink_to("configure")
    (deps / "jemalloc").chmod(0o555)
    copy = copied({"jemalloc": deps / "jemalloc"}, tmp_path / "copies")["jemalloc"]
    assert (copy / "configure").stat().st_mode & 0o777 == 0o755
    assert (copy / "configure").stat().st_mtime == 1
    assert (copy / "link").is_symlink()
    assert copy.stat().st_mode & 0o200
    (deps / "jemalloc").chmod(0o755)


@pytest.mark.parametrize(
    ("name", "file", "text", "version"),
    [
        ("fmt", "include/fmt/base.h", "#define FMT_VERSION 110002\n", "11.0.2"),
        ("zlib", "zlib.h", '#define ZLIB_VERSION "1.3"\n', "1.3"),
        ("zlib", "zlib-ng.h.in", '#define ZLIBNG_VERSION "2.2.4"\n#define ZLIBNG_VER_MAJOR 2\n'
         "#define ZLIBNG_VER_MINOR 2\n#define ZLIBNG_VER_REVISION 4\n", "2.2.4"),
        ("spdlog", "include/spdlog/version.h", "#define SPDLOG_VER_MAJOR 1\n#define SPDLOG_VER_MINOR 16\n"
         "#define SPDLOG_VER_PATCH 0\n", "1.16.0"),
        ("lz4", "lib/lz4.h", "#define LZ4_VERSION_MAJOR    1    /* a */\n#define LZ4_VERSION_MINOR   10\n"
         "#define LZ4_VERSION_RELEASE  0\n", "1.10.0"),
        ("gtest", "CMakeLists.txt", "cmake_minimum_required(VERSION 3.13)\nset(GOOGLETEST_VERSION 1.15.2)\n", "1.15.2"),
        ("libevent", "configure.ac", "AC_INIT(libevent,2.1.12-stable)\n", "2.1.12"),
        ("cpptrace", "CMakeLists.txt", "project(\n  cpptrace\n  VERSION 0.7.1\n  LANGUAGES CXX)\n", "0.7.1"),
        ("jemalloc", "VERSION", "5.3.0-0-g54eaed1\n", "5.3.0"),
        ("trie", "CMakeLists.txt", "cmake_minimum_required(VERSION 3.1)\nproject(tsl_hat_trie)\n", None),
    ],
)  # fmt: skip
def test_told_versions(name, file, text, version, tmp_path):
    path = tmp_path / name / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert told_versions({name: tmp_path / name}) == ({name: version} if version else {})


def test_versions_are_compared_as_numbers():
    wanted = [
        Dependency("zlib", "v1.3", "u"),
        Dependency("fmt", "11.0.2", "u"),
        Dependency("trie", "906e6abd1", "u"),
    ]
    assert unlike(wanted, {"zlib": "1.3.0", "fmt": "11.0.20", "trie": "1.0"}) == [
        "fmt is 11.0.20, not 11.0.2"
    ]


needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not here")


@needs_cmake
def test_a_folder_is_filled(tmp_path):
    archive = tmp_path / "fmt-1.zip"
    with zipfile.ZipFile(archive, "w") as file:
        member = zipfile.ZipInfo("fmt-1/configure")
        member.external_attr = 0o100755 << 16
        file.writestr(member, "#!/bin/sh\n")
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    item = Dependency("fmt", "1", archive.as_uri(), f"MD5={md5}")
    folder = fetch_dependency(item, tmp_path / "deps")
    assert folder == tmp_path / "deps" / "fmt"
    assert os.access(folder / "configure", os.X_OK)
    assert [path.name for path in (tmp_path / "deps").iterdir()] == ["fmt"]
    assert locate(str(tmp_path / "deps"), [item]) == {"fmt": folder}
    archive.unlink()
    assert fetch_dependency(item, tmp_path / "deps") == folder


@needs_cmake
def test_what_cannot_be_fetched(tmp_path):
    archive = tmp_path / "fmt.zip"
    archive.write_text("no archive")
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    for item, text in (
        (Dependency("fmt", "1", archive.as_uri(), "MD5=00"), f"expected md5:00 but got {md5}"),
        (Dependency("fmt", "1", archive.as_uri(), f"MD5={md5}"), "is no readable archive"),
        (Dependency("fmt", "1", "file:///nowhere.zip", f"MD5={md5}"), "cannot download"),
        (
            Dependency("fmt", "v1", "https://example.org/fmt.git", archive=False),
            "git clone https://.*check out v1",
        ),
    ):
        with pytest.raises(UserError, match=text):
            fetch_dependency(item, tmp_path / "deps")
    assert not list(tmp_path.glob("deps/*"))


def documented() -> list[tuple[str, str, str]]:
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| (https://\S+) \|$", TABLE.read_text(), re.MULTILINE)
    assert rows
    return rows


def test_the_default_releases_dependencies_are_documented():
    rows = documented()
    assert rows == sorted(rows)
    assert f"release {DEFAULTS['version']}" in TABLE.read_text()
    for name, version, url in rows:
        assert version in url, name


@pytest.mark.skipif(SOURCE is None, reason="KVROCKS_SOURCE, the default release's tarball, is not set")
def test_the_documented_dependencies_are_those_of_the_source():
    found = [
        (item.name, item.version, item.url) for item in dependencies_of(Path(SOURCE or "")) if item.needed
    ]
    assert sorted(found) == documented()
