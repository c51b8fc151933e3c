"""What can be told without measuring: hit rates, and where loading beats computing."""
