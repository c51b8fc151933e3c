"""Stores at a place: servers that are there already, and that nobody here starts, stops or, without consent, empties."""
