"""What a validator says beyond what pydantic says; explain.py makes a line of it."""

from __future__ import annotations

from pydantic_core import PydanticCustomError

WRONG = "wrong"
FAULT = "fault"


def wrong(told: str) -> PydanticCustomError:
    """'KEY: VALUE is wrong; TOLD'."""
    return PydanticCustomError(WRONG, "{told}", {"told": told})


def fault(told: str, key: str = "") -> PydanticCustomError:
    """'KEY: TOLD'; key: one below the value that is validated."""
    return PydanticCustomError(FAULT, "{told}", {"told": told, "key": key})
