"""Repeats of a record that differ in what they measured."""

from tests.record_factory import varied


def rates(record: dict, values: list, **keys) -> list[dict]:
    """Repeats 1, 2, … of a record with those RPS/GPU; None is an invalid repeat of 99."""
    return [
        varied(record, {"rps_per_gpu": value}, repeat=repeat, **keys)
        if value is not None
        else varied(record, {"rps_per_gpu": 99.0}, ("broken disk",), repeat=repeat, **keys)
        for repeat, value in enumerate(values, 1)
    ]
