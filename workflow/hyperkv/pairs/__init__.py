"""The observatory: which pair of vLLM and LMCache gives right answers with which connector."""
