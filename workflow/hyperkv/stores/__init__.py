"""Stores: what holds KV. One module per word of the config key `store`."""
