"""A release by its version, the pinned SHA-256 or the user's own, and none that is made up."""

import json
import re

import pytest

from tests.configs import BASE
from tests.helpers import refused
from workflow.hyperkv.build.compile_kvrocks import build_spec
from workflow.hyperkv.build.fetch_kvrocks import SHA256, fetch_spec, tarball_of
from workflow.hyperkv.config.checks.files import check_kvrocks
from workflow.hyperkv.config.explain import validated
from workflow.hyperkv.config.models.config import Config
from workflow.hyperkv.config.models.kvrocks import DEFAULTS

UNKNOWN = "99.0.0"
OWN = "5" * 64


def section(**keys: str) -> dict:
    """Section `kvrocks` with source release, as a checked configuration has it."""
    return validated(Config, BASE | {"kvrocks": {"source": "release"} | keys}).model_dump()["kvrocks"]


@pytest.mark.parametrize("version", SHA256)
def test_a_known_version_is_all_that_it_takes(version):
    kvrocks = section(version=version)
    check_kvrocks(kvrocks)
    url = f"https://github.com/apache/kvrocks/archive/refs/tags/v{version}.tar.gz"
    assert tarball_of(kvrocks) == {"url": url, "sha256": SHA256[version]}
    assert json.loads(fetch_spec(kvrocks, "release")) == {"source": "release", **tarball_of(kvrocks)}
    assert json.loads(build_spec(kvrocks, "release")).items() >= tarball_of(kvrocks).items()


def test_the_known_ones_are_digests_of_different_files():
    assert DEFAULTS["version"] in SHA256
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in SHA256.values())
    assert len(set(SHA256.values())) == len(SHA256)


def test_an_unknown_version_needs_its_digest_and_says_where_to_get_it():
    with refused(
        rf"^config: kvrocks\.sha256: none is known here for version {UNKNOWN} .*v{UNKNOWN}\.tar\.gz.*sha256sum"
    ):
        check_kvrocks(section(version=UNKNOWN))
    kvrocks = section(version=UNKNOWN, sha256=OWN)
    check_kvrocks(kvrocks)
    assert tarball_of(kvrocks)["url"].endswith(f"/v{UNKNOWN}.tar.gz")
    assert tarball_of(kvrocks)["sha256"] == OWN


def test_a_copy_of_a_tarball_is_held_against_the_version():
    copy = "file:///media/kvrocks.tar.gz"
    assert tarball_of(section(url=copy, version="2.15.0")) == {"url": copy, "sha256": SHA256["2.15.0"]}
    assert tarball_of(section(url=copy, sha256=OWN)) == {"url": copy, "sha256": OWN}


def test_sources_that_build_no_release_need_none():
    for source in ("conda", "binary"):
        check_kvrocks(validated(Config, BASE | {"kvrocks": {"source": source}}).model_dump()["kvrocks"])
