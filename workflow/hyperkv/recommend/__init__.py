"""Which scenario to run, its files, and the check that they start."""
