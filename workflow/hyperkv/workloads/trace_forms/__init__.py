"""Traces of requests, whatever their form: who asked when, how long, and which blocks their prompts are made of.

A form is recognised by the fields of the first record (forms.py), whatever holds the records (lines.py): JSON lines, a JSON
array, JSON objects over several lines, or a table with a header such as CSV.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Columns:
    """A trace's requests in the order in which they arrive.

    form: its name. arrival_s: float64, seconds from the first request's. input_tokens, output_tokens: int64, at least 1.
    ids, starts: hash ids of request k's blocks are ids[starts[k]:starts[k + 1]], uint32, from the prompt's head on; tokens
    behind the last one's block are the request's own. block_tokens: tokens of a block. known: whether the form says which
    blocks prompts are made of; ids is empty where it does not. notes: what was done to make requests of it, a line each.
    """

    form: str
    arrival_s: np.ndarray
    input_tokens: np.ndarray
    output_tokens: np.ndarray
    ids: np.ndarray
    starts: np.ndarray
    block_tokens: int
    known: bool = True
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.input_tokens)

    @property
    def total_tokens(self) -> np.ndarray:
        """Prompt and answer of each request: int64."""
        return self.input_tokens + self.output_tokens
