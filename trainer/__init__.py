"""The two-stage trainer: captions, then query groups, from the shards of an output folder."""
