"""What the engine's logs say of a failure."""

import pytest

from workflow.hyperkv.engines.vllm.failures import cause, engine_error


def test_known_causes_have_a_mend_and_others_none():
    assert "wheel that has it" in cause(["x", "RuntimeError: RESPClient requires the C++ Redis extension."])
    assert cause(["KeyError: 3"]) is None


@pytest.mark.parametrize(
    ("line", "mend"),
    [
        (
            "RuntimeError: FS native L2 adapter requires the C++ FS extension. Build with: pip",
            "choose store files",
        ),
        ("ModuleNotFoundError: No module named 'mooncake'", "envs/mooncake.txt"),
        ("ModuleNotFoundError: No module named 'lmcache_rust_raw_block_io'", "lmcache-rust-raw-block-io"),
        ("ValueError: --l2-adapter #1: unknown adapter type 'nixl_store_dynamic'. Known: fs", "nixl-cu13"),
        (
            "The 'lmcache server' command requires the full lmcache installation with CUDA extensions.",
            "libibverbs1",
        ),
        ("ImportError: libibverbs.so.1: cannot open shared object file", "package libibverbs1"),
    ],
)
def test_a_peers_missing_package_is_named(line, mend):
    assert mend in cause(["x", line])


_ABORTED = """\
(EngineCore pid=7) ERROR 11-28 05:20:04 [core.py:1233] EngineCore encountered a fatal error.
(EngineCore pid=7) ERROR 11-28 05:20:04 [core.py:1233] Traceback (most recent call last):
(EngineCore pid=7) ERROR 11-28 05:20:04 [core.py:1233]   File "/site/vllm/v1/engine/core.py", line 1224, in run_engine_core
(EngineCore pid=7) ERROR 11-28 05:20:04 [core.py:1233]     engine_core.run_busy_loop()
(EngineCore pid=7) ERROR 11-28 05:20:04 [core.py:1233]   File "/site/lmcache/vllm_v1_adapter.py", line 1849, in request_finished
(EngineCore pid=7) ERROR 11-28 05:20:04 [core.py:1233]     assert self.lmcache_engine is not None
(EngineCore pid=7) ERROR 11-28 05:20:04 [core.py:1233]            ^^^^^^^^^^^^^^^^^^^
(EngineCore pid=7) ERROR 11-28 05:20:04 [core.py:1233] AssertionError
(APIServer pid=6) ERROR 11-28 05:20:04 [async_llm.py:704] vllm.v1.engine.exceptions.EngineDeadError: see above""".splitlines()


def test_an_engines_death_is_told_with_its_place_and_what_is_known_of_it():
    assert engine_error(_ABORTED) == (
        "AssertionError (request_finished, vllm_v1_adapter.py:1849); this version of LMCache ends the engine when a "
        "client gives a request up; raise loadgen.request_timeout_s"
    )
    other = [line.replace("self.lmcache_engine is not None", "False") for line in _ABORTED]
    assert engine_error(other) == "AssertionError (request_finished, vllm_v1_adapter.py:1849)"
    assert engine_error(_ABORTED[:4]) is None
    told = [*_ABORTED[:7], _ABORTED[7].replace("AssertionError", "RuntimeError: why")]
    assert engine_error(told).startswith("RuntimeError: why; this version of LMCache")


def test_the_first_exception_may_be_a_workers():
    lines = [
        '(Worker_TP1 pid=8) ERROR 11-28 05:20:03 [multiproc_executor.py:9]   File "/site/vllm/w.py", line 3, in run',
        "(Worker_TP1 pid=8) ERROR 11-28 05:20:03 [multiproc_executor.py:9] torch.OutOfMemoryError: CUDA",
        "(EngineCore pid=7) ERROR 11-28 05:20:04 [core.py:1] RuntimeError: Worker failed with error",
    ]
    assert engine_error(lines) == "OutOfMemoryError: CUDA"


@pytest.mark.parametrize(
    "line",
    [
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
        "(APIServer pid=6) ERROR 11-28 05:20:04 [serving.py:500] vllm.v1.engine.exceptions.EngineDeadError: EngineCore",
    ],
)
def test_an_engine_that_was_killed_said_nothing(line):
    assert "dmesg" in engine_error(["(EngineCore pid=7) INFO 11-28 05:20:03 [core.py:9] up", line])
    assert "dmesg" not in engine_error([*_ABORTED, line])
