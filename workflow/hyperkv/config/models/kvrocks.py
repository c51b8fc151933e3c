"""Section `kvrocks`: one model per source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field

from .faults import fault
from .texts import GitUrl, Name, Path, Url, matches
from .values import Section, Several, key

BUILT = ("release", "git", "path")
Patch = Annotated[
    str,
    Field(pattern="^[a-z0-9][a-z0-9-]*$", json_schema_extra={"unit": "name"}),
    AfterValidator(matches("name")),
]
Commit = Annotated[str, Field(pattern="^[0-9a-f]{40}$")]


class _Server(Section):
    march: Name = key("native", pattern="^[a-z0-9][a-z0-9._+-]*$")
    """Instruction set that is built for, a compiler's -march: `native`, or a name such as x86-64-v3 for a
    build that is shared by different machines."""
    patches: Annotated[Several[Patch], Field(min_length=1)] = key(["large-transfers", "fewer-copies"])
    """Files of workflow/patches/kvrocks, without .patch, that are applied in this order to the source of
    a second program, for the scenarios with `patched: true`. Each says at its top what it changes and
    why, and in a line `Needs:` which others come before it."""


class _Built(_Server):
    deps_dir: Path | None = None
    """Build without internet. A folder with one unpacked source tree per dependency of Kvrocks, named as
    its cmake files name it; config/kvrocks/README.md lists them, `make kvrocks-deps` fills one on a
    machine with internet. It is copied, never written to. null downloads them."""


class _Tarball(Section):
    version: str = key("2.10.0", unit="version", pattern=r"^\d+\.\d+\.\d+(-[0-9a-z.]+)?$")
    """The release."""
    url: Url | None = None
    """The source tarball; null is that of `version` at its repository."""
    sha256: str | None = key(None, unit="hex digits", pattern="^[0-9a-f]{64}$")
    """SHA-256 of the tarball; null is the one of `version`, where it is known
    (workflow/hyperkv/build/fetch_kvrocks.py); else it is asked for."""


class _Repository(Section):
    git_url: GitUrl = "https://github.com/apache/kvrocks.git"
    """The repository, a URL, `user@host:path` or a folder."""
    commit: Commit | None = key(None, unit="hex digits")
    """The commit, all 40 digits; source git needs it."""


class _Checkout(Section):
    path: Path | None = None
    """The checkout to build; source path needs it."""


class Auto(_Tarball, _Repository, _Checkout, _Built):
    """One that was built here before, else one on PATH, else none; builds nothing by itself."""

    source: Literal["auto"] = "auto"


class Release(_Tarball, _Built):
    """The tarball of a release."""

    source: Literal["release"]


class Git(_Repository, _Built):
    """The commit of a repository."""

    source: Literal["git"]
    commit: Commit = key(unit="hex digits")
    """The commit, all 40 digits."""


class Checkout(_Checkout, _Built):
    """A checkout of yours."""

    source: Literal["path"]
    path: Path
    """The checkout to build."""


class Conda(_Server):
    """Conda-forge's binary (with --sdm conda)."""

    source: Literal["conda"]


class Binary(_Server):
    """Programs that are there."""

    source: Literal["binary"]
    binary: Path | None = None
    """The server's program; null looks on PATH, and need not find one beside a patched_binary."""
    patched_binary: Path | None = None
    """A second program, for the scenarios with `patched: true`. What build_patched_kvrocks makes says
    itself that it is patched, stripped or not; an older one needs its kvrocks.json beside it. null leaves
    them out."""


SOURCES: dict[str, type[_Server]] = {
    "auto": Auto,
    "release": Release,
    "git": Git,
    "path": Checkout,
    "conda": Conda,
    "binary": Binary,
}
DEFAULTS = {
    name: field.default
    for model in (Auto, Binary)
    for name, field in model.model_fields.items()
    if name != "source"
}


def readers(name: str) -> list[str]:
    """The sources that read a key."""
    return [source for source, model in SOURCES.items() if source != "auto" and name in model.model_fields]


def unread(section: Mapping[str, Any], source: str) -> list[str]:
    """Keys of a section that say something and that a source does not read."""
    known = SOURCES[source].model_fields
    others = [name for name in DEFAULTS if name not in known]
    return [name for name in others if section.get(name) not in (None, DEFAULTS[name])]


def not_read(name: str, source: str, told: str = "") -> str:
    """What to do about a key that a source does not read."""
    wanted = " or ".join(readers(name))
    return f"source {source}{told} does not read it; set kvrocks.source: {wanted}, or leave {name} out"


def of_its_source(section: Any) -> Any:
    """A section less the keys that other sources read and that are as they are without being given."""
    if not isinstance(section, Mapping) or section.get("source", "auto") not in list(SOURCES):
        return section
    source = section.get("source", "auto")
    if others := unread(section, source):
        raise fault(not_read(others[0], source), others[0])
    known = SOURCES[source].model_fields
    kept = {
        name: value
        for name, value in section.items()
        if (name in known or name not in DEFAULTS)
        and (value is not None or DEFAULTS.get(name, "") is not None)
    }
    return {"source": source, **kept}


Kvrocks = Annotated[
    Auto | Release | Git | Checkout | Conda | Binary, Discriminator("source"), BeforeValidator(of_its_source)
]
