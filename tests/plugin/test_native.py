"""Client native of connector striped: its checksums are those of the other client, and its build says what it lacks."""

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plugin.native import SOURCE
from tests.stores.conftest import new_keys, store_config
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.build.build_striped import compile_library
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.stores.registry import make_store
from workflow.plugin.lmcache_striped.native import NativeLoads


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with make_store("valkey", store_config(tmp_path_factory.mktemp("native"), "valkey")) as store:
        yield store


@given(
    size=st.integers(0, 700_000),
    stripe=st.integers(1, 300_000),
    in_flight=st.sampled_from([None, 1, 2, 7]),
    seed=st.integers(0, 1 << 30),
)
def test_what_python_saved_is_loaded_whatever_its_size(library, store, size, stripe, in_flight, seed):
    stripe = max(stripe, size // 900)
    value = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    (key,) = new_keys(1)
    options = {"stripe_bytes": stripe, "in_flight": in_flight, "timeout_s": 10}
    with make_connector("striped", store, 2, **options, library=library) as connector:
        connector.put([key], [value])
        buffer = np.zeros_like(value)
        assert connector.get([key], [buffer]) == [True]
    assert (buffer == value).all()


def test_a_library_that_is_not_there_says_how_to_make_one(store, tmp_path):
    with pytest.raises(
        UserError, match=r"client native: .* cannot be used .* install this package where .* xxhash\.h"
    ):
        NativeLoads(tmp_path / "striped.so")
    with pytest.raises(
        UserError, match=r"client native: there is no .*striped.so; .* build_striped` makes it"
    ):
        make_connector("striped", store, 1, library=tmp_path / "striped.so")


def test_a_missing_compiler_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "no-such-cc")
    with pytest.raises(UserError, match=r"there is no C compiler no-such-cc .*choose client python"):
        compile_library(SOURCE, "native", tmp_path / "striped.so")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#include <no/xxhash.h>", "needs xxhash.h .Debian: libxxhash-dev"),
        ("int x = y;", "did not compile: .*error"),
    ],
)
def test_what_does_not_compile(tmp_path, monkeypatch, text, words):
    monkeypatch.delenv("CC", raising=False)
    (tmp_path / "striped.c").write_text(text)
    with pytest.raises(UserError, match=words):
        compile_library(tmp_path / "striped.c", "native", tmp_path / "striped.so")
    assert [path.name for path in tmp_path.iterdir()] == ["striped.c"]
