"""Engines: what serves requests. `replay` moves real bytes and models the GPU; see docs in replay.py."""
