"""The steps of a plan as a shell would take them, and the one place that runs them."""
