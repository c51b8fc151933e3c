"""From records to tables: one module per table."""
