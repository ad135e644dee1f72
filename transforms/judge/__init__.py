"""From (query, candidate) to a judgement with its confidence."""
