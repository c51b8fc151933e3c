"""The fit of the step model: known coefficients come back, bad measurements are refused; no vllm needed."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.engines.replay import calibrate
from workflow.hyperkv.models.gpu import GpuModel

MODEL = Path(__file__).parents[3] / "config/models/llama-3.2-1b.json"
TRUE = {
    "prefill_tokens_per_s": 38_500,
    "prefill_attention_s_per_token2": 9e-10,
    "prefill_min_s": 0.04,
    "decode_base_s": 0.0065,
    "decode_per_sequence_s": 2e-5,
    "decode_per_context_token_s": 4.5e-8,
}


def measured_steps(true: dict, noise: float = 0.0) -> list[dict]:
    """The plan's rows with the step times that the figures `true` give, and relative Gaussian noise."""
    rows = [calibrate.step_row([1.0], (1, tokens)) for tokens in calibrate.PROMPTS]
    rows += [calibrate.step_row([1.0], seqs=seqs, context=seqs * each) for seqs, each in calibrate.DECODE]
    rows += [
        calibrate.step_row([1.0], prefill, seqs, seqs * each)
        for (seqs, each), prefill in itertools.product(calibrate.MIXED_DECODE, calibrate.MIXED_PREFILL)
    ]
    random = np.random.default_rng(1)
    model = GpuModel("true", host_device_gbps=1, **true)
    for row in rows:
        row["step_s"] = calibrate.predicted_s(model, row) * (1 + noise * random.standard_normal())
    return rows


def test_exact_samples_give_back_every_figure():
    fit = calibrate.fit_step_model(measured_steps(TRUE))
    assert fit["coefficients"] == pytest.approx(TRUE, rel=1e-6)
    assert set(fit["quality"]) == {"prefill", "decode", "mixed", "all"}
    assert all(part["max_relative_error"] < 1e-9 for part in fit["quality"].values())
    assert fit["quality"]["all"]["r2"] == pytest.approx(1)


def test_noisy_samples_give_back_what_the_steps_are_made_of():
    fit = calibrate.fit_step_model(measured_steps(TRUE, noise=0.02))
    coefficients = fit["coefficients"]
    assert coefficients["prefill_tokens_per_s"] == pytest.approx(38_500, rel=0.1)
    assert coefficients["prefill_min_s"] == pytest.approx(0.04, rel=0.05)
    assert coefficients["decode_per_context_token_s"] == pytest.approx(4.5e-8, rel=0.1)
    assert coefficients["decode_base_s"] == pytest.approx(0.0065, rel=0.03)
    assert 0.005 < fit["quality"]["all"]["median_relative_error"] < 0.04


def test_a_cost_that_is_not_there_is_zero_never_negative():
    absent = {"decode_per_sequence_s": 0.0, "prefill_attention_s_per_token2": 0.0}
    rows = measured_steps(TRUE | absent, noise=0.02)
    assert min(calibrate.fit_step_model(rows)["coefficients"].values()) >= 0


def test_prompts_that_cost_nothing_more_are_refused():
    rows = [calibrate.step_row([0.0 * tokens + 0.02], (1, 0)) for tokens in calibrate.PROMPTS]
    rows += [calibrate.step_row([0.01], seqs=seqs, context=seqs) for seqs in (1, 2, 4)]
    with pytest.raises(UserError, match="do not grow"):
        calibrate.fit_step_model(rows)


def test_too_few_steps_are_refused():
    with pytest.raises(UserError, match="5 prefill and 0 decode steps cannot fix"):
        calibrate.fit_step_model(measured_steps(TRUE)[:5])


def test_r2_of_measurements_that_do_not_vary_is_null():
    assert calibrate.quality(np.array([1.0, 1.1]), np.array([1.0, 1.0]))["r2"] is None


def test_step_row_names_the_kind_and_keeps_the_samples():
    row = calibrate.step_row([0.3, 0.1, 0.2], (4, 1024), 16, 32_768)
    assert (row["kind"], row["prefill_tokens"], row["prefill_mean_context_tokens"]) == ("mixed", 4096, 512)
    assert (row["step_s"], row["step_s_samples"]) == (0.2, [0.3, 0.1, 0.2])
    assert calibrate.step_row([0.1], (1, 8))["kind"] == "prefill"
    assert calibrate.step_row([0.1], seqs=2, context=16)["kind"] == "decode"


class FakeEngine:
    """An LLMEngine that decodes everything it holds, one token a step, a step costing one second."""

    def __init__(self) -> None:
        self.left, self.now, self.engine_core = {}, 0.0, self

    def get_output(self):
        self.now += 1
        return type("Outputs", (), {"timestamp": self.now})

    def add_request(self, name, prompt, max_tokens) -> None:
        self.left[name] = max_tokens

    def has_unfinished_requests(self) -> bool:
        return bool(self.left)

    def step(self) -> list:
        self.engine_core.get_output()
        done = list(self.left)
        self.left = {name: left - 1 for name, left in self.left.items() if left > 1}
        return [type("Output", (), {"request_id": name}) for name in done]


@pytest.mark.parametrize("prefill", [(0, 0), (3, 32)])
def test_busy_steps_are_those_that_hold_everything(prefill):
    stepper = calibrate.Stepper(FakeEngine(), lambda max_tokens: max_tokens, 100)
    row = calibrate.measure_busy(stepper, (4, 64), prefill, 5)
    assert row["step_s_samples"] == [1.0] * 5
    assert row["prefill_tokens"] == prefill[0] * prefill[1]
    assert row["decode_seqs"] == 4
    assert row["decode_context_tokens"] > 4 * 64
    assert not stepper.engine.has_unfinished_requests()


def test_an_engine_that_drops_requests_is_an_error():
    with pytest.raises(UserError, match="dropped requests"):
        calibrate.Stepper(FakeEngine(), lambda max_tokens: max_tokens, 100).step()


def test_without_vllm_the_command_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="needs an environment with vllm"):
        calibrate.calibrate(MODEL, tmp_path / "out.json", False, 1, 1)
