"""Package lmcache-striped, a project of its own, from which the workflow imports what it shares with it."""
