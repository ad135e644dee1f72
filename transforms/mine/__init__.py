"""From queries to rankings: retrieve candidates, and drop the rankings that cannot serve."""
