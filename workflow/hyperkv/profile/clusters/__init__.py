"""Clusters made on loopback, and what a client gets of them."""
