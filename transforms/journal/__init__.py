"""Finished results, so that none is computed or paid for twice."""
