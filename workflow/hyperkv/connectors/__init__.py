"""Connectors: how the engine reaches the store. One module per word of the config key `connector`."""
