"""The soak: random faults over a long time, and what must hold after each. `python -m tests.soak --help`"""
