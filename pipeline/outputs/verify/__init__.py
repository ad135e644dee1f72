"""Whether an output is sound."""
