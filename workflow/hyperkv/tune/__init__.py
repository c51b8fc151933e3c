"""The tuner: its search space, its study on disk, the load of a store alone, and the engine-level finalists."""
