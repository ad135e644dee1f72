"""Teacher calls by way of batch files."""
