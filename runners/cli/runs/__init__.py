"""Commands that make an output, and what is asked before and while they do."""
