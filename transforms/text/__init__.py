"""Words and languages."""
