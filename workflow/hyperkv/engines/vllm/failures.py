"""What vLLM's and LMCache's logs say of a failure, in a line with the mend. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...base.documents import own_data

_DATA = own_data(__file__)
_LINES_ABOVE = 30
_ENGINE_ERROR = re.compile(
    r"\((?:EngineCore|Worker)[^)]*\) ERROR .*?\] (?:\w+\.)*(\w*(?:Error|Exception|Interrupt)\b.*)"
)
_ENGINE_FRAME = re.compile(
    r'\((?:EngineCore|Worker)[^)]*\) ERROR .*?\]   File "(?:[^"]*/)?([^/"]+)", line (\d+), in (\w+)'
)


def cause(lines: Sequence[str]) -> str | None:
    """One line for a start that failed for a known reason, None for another."""
    text = "\n".join(lines)
    return next((f"vllm: {mend}" for sign, mend in _DATA["starts"].items() if sign in text), None)


def engine_error(lines: Sequence[str]) -> str | None:
    """The first exception that vLLM's engine process wrote, such as `RuntimeError: ...`, or that it was killed; None for neither.

    One without words is told with the place that raised it, one that is known with what to do about it. What follows it
    are consequences: the API server then refuses every request, and its port goes away.
    """
    frame = ""
    for number, line in enumerate(lines):
        if found := _ENGINE_FRAME.search(line):
            frame = f"{found[3]}, {found[1]}:{found[2]}"
        if found := _ENGINE_ERROR.search(line):
            said = found[1][:300]
            said += f" ({frame})" if frame and ": " not in said else ""
            above = "\n".join(lines[max(0, number - _LINES_ABOVE) : number])
            return said + next((f"; {mend}" for sign, mend in _DATA["deaths"].items() if sign in above), "")
    gone = any(sign in line for line in lines for sign in _DATA["gone"])
    return _DATA["killed"] if gone else None
