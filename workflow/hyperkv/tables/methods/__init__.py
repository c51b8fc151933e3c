"""How tables are worked out: layers by substitution, costs, and whether ladder steps are what they name."""
