"""What a run says of itself: summary, card, report."""
