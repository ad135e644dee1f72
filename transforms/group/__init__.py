"""From videos to groups that must share a split: frame hashes, near-duplicates, components."""
