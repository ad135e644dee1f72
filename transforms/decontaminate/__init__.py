"""From the test sets of others to what of the data is theirs, by bytes and by words: it is left out, and told."""
