"""Programs beside the workflow that compare our connectors and servers with others."""
