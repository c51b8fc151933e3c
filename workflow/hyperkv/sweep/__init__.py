"""The sweep: one job measures one scenario x repeat, all its loads."""
