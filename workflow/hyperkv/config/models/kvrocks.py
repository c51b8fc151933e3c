"""Section `kvrocks`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .texts import GitUrl, Path, Url, text
from .values import Boolean, Section, Several, key

BUILT = ("release", "git", "path")
Patch = text("name", "^[a-z0-9][a-z0-9-]*$")


def _of(*sources: str) -> dict[str, Any]:
    """The mark of a key that some sources read."""
    return {"sources": list(sources)}


class Kvrocks(Section):
    """Where the Kvrocks server comes from. Its scenarios are left out, and that is said, when there is none."""

    source: Literal["auto", "release", "git", "path", "conda", "binary"] = key(
        "word",
        "`release` builds the tarball of `url`, `git` the commit of a repository, `path` a checkout of yours; `conda` takes "
        "conda-forge's binary (with --sdm conda), `binary` programs that are there. `auto` takes one that was built here "
        "before, else one on PATH, else none, and builds nothing by itself. A key that the source does not read is refused.",
        "auto",
    )
    required: Boolean = key(
        "boolean", "Whether a run without a Kvrocks stops instead of leaving its scenarios out.", False
    )
    url: Url = key(
        None,
        "release. The source tarball.",
        "https://github.com/apache/kvrocks/archive/refs/tags/v2.10.0.tar.gz",
        marks=_of("release"),
    )
    sha256: str = key(
        "hex digits",
        "release. SHA-256 of the tarball.",
        "51f07d17bf2df0920fd9d6090266286ef426693d0b74e927584382f8b2b5f48a",
        pattern="^[0-9a-f]{64}$",
        marks=_of("release"),
    )
    git_url: GitUrl = key(
        None,
        "git. The repository, a URL, `user@host:path` or a folder.",
        "https://github.com/apache/kvrocks.git",
        marks=_of("git"),
    )
    commit: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = key(
        "hex digits", "git. The commit, all 40 digits; source git needs it.", None, marks=_of("git")
    )
    path: Path | None = key(
        None, "path. The checkout to build; source path needs it.", None, marks=_of("path")
    )
    binary: Path | None = key(
        None,
        "binary. The server's program; null looks on PATH, and need not find one beside a patched_binary.",
        None,
        marks=_of("binary"),
    )
    patched_binary: Path | None = key(
        None,
        "binary. A second program, for the scenarios with `patched: true`. What build_patched_kvrocks makes says itself that it "
        "is patched, stripped or not; an older one needs its kvrocks.json beside it. null leaves them out.",
        None,
        marks=_of("binary"),
    )
    deps_dir: Path | None = key(
        None,
        "Build without internet. A folder with one unpacked source tree per dependency of Kvrocks, named as its cmake files name "
        "it; config/kvrocks/README.md lists them, `make kvrocks-deps` fills one on a machine with internet. It is copied, never "
        "written to. null downloads them.",
        None,
        marks=_of(*BUILT),
    )
    march: text("name", "^[a-z0-9][a-z0-9._+-]*$") = key(
        None,
        "Instruction set that is built for, a compiler's -march: `native`, or a name such as x86-64-v3 for a build that is shared "
        "by different machines.",
        "native",
    )
    patches: Annotated[Several[Patch], Field(min_length=1)] = key(
        None,
        "Files of workflow/patches/kvrocks, without .patch, that are applied in this order to the source of a second program, for "
        "the scenarios with `patched: true`. Each says at its top what it changes and why, and in a line `Needs:` which others "
        "come before it.",
        ["large-transfers", "fewer-copies"],
    )
