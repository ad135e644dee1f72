"""Read what a run wrote: card, report, verify, explain, export."""
