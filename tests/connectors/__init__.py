"""Tests of workflow.hyperkv.connectors."""
