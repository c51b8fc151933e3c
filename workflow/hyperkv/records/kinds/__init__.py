"""The kinds of records, a model each: cells, points of the profile, trials of the tuner."""
