"""Every key of a configuration, as pydantic models: a module per section, each key once with type, bounds, default, unit and meaning."""
