"""Connector `striped`: a chunk is several values, and all stripes of a request are in flight at once."""
