"""From shards to examples and clips."""
