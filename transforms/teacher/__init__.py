"""Asking a teacher: each question recorded in the journal, and cut until it fits."""
