"""Descriptors that every server which this process starts holds on to as well: locks that last as long as the last of them."""

HELD: set[int] = set()
