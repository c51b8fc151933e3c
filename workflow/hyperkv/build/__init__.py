"""Making things: Kvrocks, the environments of engine and load generator, the compiled receiver, models."""
