"""What a format in which KV is stored costs in bytes, seconds and quality."""
