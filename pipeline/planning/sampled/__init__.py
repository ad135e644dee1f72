"""What a run of a large corpus would do, by a sample of its videos and the output of an earlier run."""
