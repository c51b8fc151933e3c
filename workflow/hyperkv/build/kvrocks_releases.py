"""Releases of Kvrocks: where the tarball of a version is, and its SHA-256 where one is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base.errors import UserError

ARCHIVE = "https://github.com/apache/kvrocks/archive/refs/tags/v{version}.tar.gz"
# As published: to 2.15.0 by conda-forge's recipe of kvrocks, 2.16.0 by Arch's.
SHA256 = {
    "2.10.0": "51f07d17bf2df0920fd9d6090266286ef426693d0b74e927584382f8b2b5f48a",
    "2.10.1": "1dc60ef0c9e92ce2d881ec16ecca14fa8ec057aba4e002098de6160bc2d1c03b",
    "2.11.0": "da99fd272971a088b0c81556b62a8f57c7a80d22c13f76718ac99ade9af1d03c",
    "2.11.1": "b5ea5305e2f6cfa38a7c16d19e28f0b16b40ad911366f85809b0413fb0964598",
    "2.12.0": "505ba8ad08d27944ae6aceccce8667b83d62d38876e10b3c6095838f84d9eb17",
    "2.12.1": "7fb95327532371d05a1293fc99fdb39d296ea4a9fa02425b8723a2cdaf062b9d",
    "2.13.0": "6153af397deeb56af98e78cdbe093727dc6c62040467381c92eb7d1b694d1177",
    "2.14.0": "6e578e82e0511d32eed70ce71d195eaa7bf6a7cf13ecd9ea65eb741a4f398f19",
    "2.15.0": "be9a74e95b6b13a262a2c5b7e80bb9f0b2086b101cc78c07dd0a7bd68304f489",
    "2.16.0": "066284fcaae2d1c60e8b75f1e94d9878fba6a75787f95b6b9c7b63be420dd2c3",
}


def tarball_of(kvrocks: Mapping[str, Any]) -> dict[str, str]:
    """url and sha256 of the release that section `kvrocks` of the config asks for: its own keys, else those of its
    version. Raises UserError when the SHA-256 is neither given nor known."""
    url = kvrocks["url"] or ARCHIVE.format(version=kvrocks["version"])
    sha256 = kvrocks["sha256"] or SHA256.get(kvrocks["version"])
    if sha256 is None:
        raise UserError(
            f"config: kvrocks.sha256: none is known here for version {kvrocks['version']} (known: {', '.join(SHA256)}); "
            f"set it to that of {url}: `curl -L URL | sha256sum`, held against what a distribution's recipe of that "
            f"version says"
        )
    return {"url": url, "sha256": sha256}
