"""What a GPU's step times were, and the model of them that was fitted."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .record import Name, Record, Word


class Calibration(Record):
    """Step times of one model on one GPU. mode: eager or cuda_graphs; engine: vLLM's options; fit: coefficients and their quality."""

    record: Literal["calibration"] = "calibration"
    model: Name
    mode: Word
    environment: dict[str, Any]
    copies: list[dict[str, Any]] = Field(validation_alias="copy", serialization_alias="copy")
    engine: dict[str, Any]
    steps: list[dict[str, Any]]
    fit: dict[str, Any]
