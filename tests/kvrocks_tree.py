"""A stand-in for Kvrocks's source: a tree whose x.py writes, fails or hangs in seconds, and tools to build it with."""

import json
import stat
import tarfile
from pathlib import Path
from typing import Any

VERSION_PATCH = """Says another version.

diff --git a/version b/version
--- a/version
+++ b/version
@@ -1 +1 @@
-version 2.10.0 (commit abc1234)
+version 2.10.9 (commit abc1234)
"""
X_PY = """#!/usr/bin/env python3
import json, subprocess, sys
from pathlib import Path

action, folder, jobs, *rest = sys.argv[1:]
assert action == "build" and jobs.startswith("-j") and set(rest[::2]) <= {"-D"}, sys.argv
here, build = Path(__file__).parent, Path(folder)
git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True)
seen = {
    "jobs": int(jobs[2:]),
    "options": rest[1::2],
    "made": sorted(path.name for path in (build / "_deps").iterdir()),
    "git": git.stdout.strip(),
}
for percent in (1, 9, 12, 19, 47, 100):
    print(f"[{percent:3}%] Building CXX object", flush=True)
behaviour = (here / "behaviour").read_text().strip()
if behaviour == "fail":
    print("src/server.cc:7:3: error: expected ';' before '}' token")
    print("gmake[1]: *** [all] Error 2", flush=True)
    raise RuntimeError("\\nfailed to run: ('cmake', '--build')\\nexit with code: 2\\n")
if behaviour == "hang":
    child = subprocess.Popen(["sleep", "60"])
    print("child", child.pid, flush=True)
    child.wait()
version = (here / "version").read_text().strip()
for name in ("jemalloc", "luajit"):
    for source in [Path(word.partition("=")[2]) for word in seen["options"] if word.startswith(f"FETCHCONTENT_SOURCE_DIR_{name.upper()}=")]:
        (source / "made-here.o").write_text("object code")
main = (here / "src" / "cli" / "main.cc").read_text().splitlines()
marks = "".join(f"#{json.loads(line.strip().rstrip(';'))}\\n" for line in main if line.strip().startswith('"'))
(build / "kvrocks").write_text(f"#!/bin/sh\\necho 'kvrocks {version}'\\n{marks}#{json.dumps(seen)}\\n")
(build / "kvrocks").chmod(0o755)
"""


CMAKE = """project(kvrocks LANGUAGES CXX)
option(DISABLE_JEMALLOC "disable it" OFF)
option(ENABLE_LUAJIT "enable use of luaJIT instead of lua" OFF)
# include(cmake/commented.cmake)
if (CMAKE_HOST_APPLE)
    set(DISABLE_JEMALLOC ON)
endif ()
if(NOT DISABLE_JEMALLOC)
    include(cmake/jemalloc.cmake)
endif()
include(cmake/rocksdb.cmake)
if (ENABLE_LUAJIT)
    include(cmake/luajit.cmake)
else()
    include(cmake/lua.cmake)
endif()
if(SOME_PROBE_OF_CMAKE)
    include(cmake/span.cmake)
endif()
"""
UTILS = """function(FetchContent_DeclareWithMirror dep url hash)
  FetchContent_Declare(${dep}
    URL ${DEPS_FETCH_PROXY}${url}
    URL_HASH ${hash}
  )
endfunction()
"""
DECLARED = {
    "jemalloc": "GitHubWithMirror(jemalloc\n  jemalloc/jemalloc 5.3.0  \n  SHA1=1be8)",
    "rocksdb": "GitHubWithMirror(rocksdb\n  facebook/rocksdb v9.6.1\n  MD5=ce31)",
    "luajit": "GitHubTarWithMirror(luajit RocksLabs/LuaJIT c0a8e68325ec261a77bde1c8eabad398168ffe74\n  MD5=7ff3)",
    "lua": "GitHubWithMirror(lua\n  RocksLabs/lua f458c3d7\n  MD5=c7c4)",
    "span": "(span GIT_REPOSITORY https://example.org/span.git GIT_TAG v0.11.0)",
}


def write_cmake(folder: Path) -> None:
    """The cmake files of a source: jemalloc, rocksdb and luajit are needed, lua is not, span is left to CMake."""
    (folder / "cmake").mkdir(parents=True, exist_ok=True)
    (folder / "CMakeLists.txt").write_text(CMAKE)
    (folder / "cmake" / "utils.cmake").write_text(UTILS)
    for name, text in DECLARED.items():
        declaration = f"include_guard()\n\ninclude(cmake/utils.cmake)\n\nFetchContent_Declare{text}\n"
        (folder / "cmake" / f"{name}.cmake").write_text(declaration)


def write_program(path: Path, text: str) -> Path:
    """An executable script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def write_kvrocks(path: Path, version: str = "version 2.10.0 (commit abc1234)") -> Path:
    """A program that answers as Kvrocks does."""
    return write_program(path, f"#!/bin/sh\necho 'kvrocks {version}'\n")


def write_tree(folder: Path, behaviour: str = "build") -> Path:
    """A source tree. behaviour: build, fail, or hang with a child whose pid is printed."""
    write_program(folder / "x.py", X_PY)
    (folder / "behaviour").write_text(behaviour + "\n")
    (folder / "version").write_text("version 2.10.0 (commit abc1234)\n")
    (folder / "src" / "cli").mkdir(parents=True, exist_ok=True)
    (folder / "src" / "cli" / "main.cc").write_text("int main() {}\n")
    write_cmake(folder)
    return folder


def write_tarball(path: Path, behaviour: str = "build", commit: str | None = None) -> Path:
    """The tree as a tar.gz with one folder at its top and, as git archive has it, the commit in its header."""
    tree = write_tree(path.parent / f"tree-{behaviour}", behaviour)
    with tarfile.open(path, "w:gz", pax_headers={"comment": commit} if commit else {}) as tar:
        tar.add(tree, "kvrocks-2.10.0")
    return path


def write_tools(folder: Path, cmake: str = "3.25.1") -> Path:
    """A folder with a compiler, CMake, make and autoconf that only tell their versions."""
    write_program(
        folder / "c++",
        '#!/bin/sh\ncase "$*" in\n*-Q*) echo "  -march=      		znver9"; echo "  -mavx2       [enabled]"; echo "  -mavx512f  [disabled]"; echo "  -mpclmul  [enabled]" ;;\n*) echo "c++ (Test) 12.2.0" ;;\nesac\n',
    )
    write_program(folder / "cmake", f"#!/bin/sh\necho cmake version {cmake}\n")
    for name in ("make", "autoconf"):
        write_program(folder / name, "#!/bin/sh\n")
    return folder


def write_dependencies(folder: Path, names: tuple[str, ...] = ("rocksdb", "jemalloc", "luajit")) -> Path:
    """A folder for kvrocks.deps_dir."""
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "README").write_text(name)
    return folder


def seen_by_x_py(program: Path) -> dict[str, Any]:
    """What x.py was called with: jobs, options, the folders it found made, and the commit git told it."""
    return json.loads(program.read_text().splitlines()[-1].removeprefix("#"))
