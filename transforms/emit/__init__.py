"""From records to shards and TREC files."""
