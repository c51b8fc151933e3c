"""Claims: how they are written, what they compare, and the verdicts."""
