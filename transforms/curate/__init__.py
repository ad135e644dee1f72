"""From judgements to examples: strata, negatives, splits."""
