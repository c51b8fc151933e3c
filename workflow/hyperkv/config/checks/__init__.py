"""What of a configuration is looked at before the workflow has jobs; each raises UserError."""
